"""OpenAPI 3.1 from the routes: the description is made of what checks the requests, so it cannot drift."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from controlplane.adapters.topology_schema import TopologyModel
from controlplane.api.http.problems import CONTENT_TYPE
from controlplane.api.http.routing import Route
from controlplane.api.schemas import ROOM_PATTERN
from controlplane.api.views import Problem
from controlplane.core.identity import Scope

VERSION = version("thalweg")

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]

_PATH_PARAMETERS: Mapping[str, Json] = {
    "room": {
        "description": "Room id, yours. Callers with the scope `admin` write `TENANT:ROOM` for rooms of other tenants.",
        "pattern": ROOM_PATTERN,
    },
    "participant": {"description": "Participant id, yours.", "pattern": "^[A-Za-z0-9._~-]{1,128}$"},
    "node": {"description": "Node id.", "pattern": "^[a-z][a-z0-9-]{0,62}$"},
}

_SECURITY: Mapping[str, Json] = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of the control plane's --api-key-file. It belongs to a tenant and has scopes.",
    },
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Signed by a key of the --jwks-file (EdDSA or ES256): aud `thalweg`, iat, and exp at most 60 s"
        " later. Tenant and scopes are the key's.",
    },
}

_HEADERS: Mapping[int, Json] = {
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}


def describe(routes: Iterable[Route]) -> Json:
    """Return the OpenAPI document of some routes."""
    listed = list(routes)
    schemas = _schemas(listed)
    paths: Json = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Thalweg control plane",
            "version": VERSION,
            "summary": "Where does this participant go?",
            "description": "Every write is an idempotent PUT or DELETE with ids of your own. Errors are "
            "problem documents (RFC 9457) with a stable `code` and a `hint`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": dict(_SECURITY),
        },
    }


def _schemas(routes: list[Route]) -> Json:
    modes: dict[type[BaseModel], Mode] = {Problem: "serialization", TopologyModel: "validation"}
    for route in routes:
        for answer in route.answers.values():
            if isinstance(answer, type):
                modes[answer] = "serialization"
        if route.body is not None:
            modes[route.body] = "validation"
    models = sorted(modes.items(), key=lambda item: item[0].__name__)
    _, document = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: Json = document["$defs"]
    return schemas


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": getattr(route.handler, "__name__", "operation"),
        "summary": route.summary,
        "tags": [route.path.split("/")[2] if route.path.startswith("/v1/") else "operation"],
        "responses": {str(status): _answer(status, body) for status, body in route.answers.items()},
    }
    for status in _problem_statuses(route):
        operation["responses"][str(status)] = _problem(status)
    parameters = _parameters(route)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = _content("application/json", _ref(route.body)) | {
            "required": True
        }
    if route.yaml_body:
        operation["requestBody"] = _content("application/yaml", _ref(TopologyModel)) | {
            "required": True
        }
    operation["security"] = (
        [] if route.scope is None else [{name: [route.scope.value]} for name in _SECURITY]
    )
    if route.scope is not None:
        operation["description"] = f"Needs the scope `{route.scope.value}`."
    return operation


def _problem_statuses(route: Route) -> list[int]:
    has_body = route.body is not None or route.yaml_body
    statuses = {*route.problems, 500}
    statuses |= set() if route.scope is None else {401, 403, 429}
    statuses |= set() if route.scope in {None, Scope.ADMIN} else {503}
    statuses |= {404} if _names_a_room(route) else set()
    statuses |= {400, 408, 413, 415} if has_body else set()
    statuses |= {400} if route.query is not None or "{" in route.path else set()
    return sorted(statuses)


_OTHER: Mapping[str, Json] = {
    "application/yaml": {"$ref": f"#/components/schemas/{TopologyModel.__name__}"},
    "application/json": {"type": "object"},
}
"""Media type → what is in it, where it is no model of an answer."""


def _names_a_room(route: Route) -> bool:
    """Return whether a caller may name the room of somebody else, which it is told does not exist."""
    query = route.query.model_fields if route.query is not None else {}
    body = route.body.model_fields if route.body is not None else {}
    return "{room}" in route.path or not {"room", "after"}.isdisjoint({*query, *body})


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _content(media_type: str, schema: Json) -> Json:
    return {"content": {media_type: {"schema": schema}}}


def _answer(status: int, body: type[BaseModel] | str | None) -> Json:
    described: Json = {"description": HTTPStatus(status).phrase}
    if isinstance(body, str):
        return described | _content(body, _OTHER.get(body, {"type": "string"}))
    return described if body is None else described | _content("application/json", _ref(body))


def _problem(status: int) -> Json:
    described: Json = {"description": HTTPStatus(status).phrase}
    if status in _HEADERS:
        described["headers"] = _HEADERS[status]
    return described | _content(CONTENT_TYPE, _ref(Problem))


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = []
    for name in re.findall(r"{(\w+)}", route.path):
        known = _PATH_PARAMETERS[name]
        schema = {"type": "string", "pattern": known["pattern"]}
        found.append(
            {"name": name, "in": "path", "required": True, "description": known["description"]}
            | {"schema": schema}
        )
    for name, description in route.headers.items():
        found.append(
            {"name": name, "in": "header", "required": False, "description": description}
            | {"schema": {"type": "string"}}
        )
    if route.query is not None:
        properties = route.query.model_json_schema()["properties"]
        for name, schema in properties.items():
            found.append({"name": name, "in": "query", "required": False, "schema": schema})
    return found

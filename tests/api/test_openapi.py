"""The description describes what really comes back."""

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from controlplane.api.http.server import all_routes
from tests.api.fake_relay import relays
from tests.api.harness import Answer, Api

YAML = {"Content-Type": "application/yaml"}


async def test_it_is_valid_and_complete(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json", key=None)).json
    OpenAPIV31SpecValidator(document).validate()
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == {(route.method, route.path) for route in all_routes(open_metrics=False)}
    operations = [op for methods in document["paths"].values() for op in methods.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    assert all(op["summary"] for op in operations)


def conform(document: dict[str, Any], method: str, template: str, answer: Answer) -> None:
    """Check that an answer is one that the description promises for this operation."""
    promised = document["paths"][template][method.lower()]["responses"]
    assert str(answer.status) in promised, f"{method} {template} answered {answer.status}"
    content = promised[str(answer.status)].get("content")
    if content is None:
        assert answer.text == ""
        return
    media_type = answer.headers["Content-Type"].split(";")[0]
    schema = content[media_type]["schema"]
    if media_type.endswith("json") and schema != {"type": "string"}:
        rooted = {"components": document["components"], **schema}
        jsonschema.Draft202012Validator(rooted).validate(answer.json)


async def test_real_answers_conform(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json")).json
    participant = "/v1/rooms/{room}/participants/{participant}"
    drain = "/v1/nodes/{node}/drain"
    calls: list[tuple[str, str, object]] = [
        ("PUT", participant, {"session": "s"}),
        ("PUT", participant, {"session": "s"}),
        ("PUT", participant, {"session": 1}),
        ("GET", participant, None),
        ("GET", f"{participant}/decision", None),
        ("GET", "/v1/rooms/{room}", None),
        ("GET", "/v1/rooms", None),
        ("POST", "/v1/probe-plans", {}),
        ("GET", "/v1/nodes", None),
        ("GET", "/v1/nodes/{node}", None),
        ("PUT", drain, {"deadline_s": 5.0, "reason": "r"}),
        ("DELETE", drain, None),
        ("DELETE", participant, None),
        ("DELETE", participant, None),
        ("GET", "/v1/topology", None),
        ("PUT", "/v1/topology", None),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/metrics", None),
        ("GET", "/docs", None),
        ("GET", "/openapi.json", None),
    ]
    values = {"room": "r", "participant": "ana", "node": "eu-frankfurt-1"}
    async with relays(api, "eu-frankfurt", "us-virginia"):
        await api.join("r", "bo", probes=[{"region": "us-virginia", "rtt_ms": [1]}])
        for method, template, body in calls:
            path = re.sub(r"{(\w+)}", lambda match: values[match[1]], template)
            conform(document, method, template, await api.call(method, path, body))
            if template.startswith("/v1/"):
                conform(document, method, template, await api.call(method, path, body, key=None))
        text = (await api.call("GET", "/v1/topology")).text
        path, template = "/v1/topology?dry_run=true", "/v1/topology"
        conform(document, "PUT", template, await api.call("PUT", path, data=text, headers=YAML))
        headers = YAML | {"If-Match": '"1"'}
        conform(
            document, "PUT", template, await api.call("PUT", template, data=text, headers=headers)
        )


async def test_the_docs_page_loads_nothing_from_elsewhere(api: Api) -> None:
    page = await api.call("GET", "/docs", key=None)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert re.findall(r"https?://", page.text) == []
    assert re.findall(r"""(?:src|href)=["'](?!#|/openapi\.json)""", page.text) == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
async def test_what_needs_no_key(api: Api, path: str) -> None:
    assert (await api.call("GET", path, key=None)).status == 200


async def test_a_join_promises_no_conflict(api: Api) -> None:
    paths = (await api.call("GET", "/openapi.json")).json["paths"]
    promised = paths["/v1/rooms/{room}/participants/{participant}"]["put"]["responses"]
    assert sorted(promised) == [
        "200",
        "201",
        "400",
        "401",
        "403",
        "404",
        "408",
        "413",
        "415",
        "429",
        "451",
        "500",
        "503",
    ]

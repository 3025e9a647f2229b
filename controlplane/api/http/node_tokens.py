"""/v1/node-tokens: one-time tokens with which nodes get their first certificate."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import Name, Strict
from controlplane.api.views import View
from controlplane.core.enrolment import MAX_NAMES, MAX_TOKEN_TTL_S, TOKEN_TTL_S, host_refusal
from controlplane.core.identity import Scope
from controlplane.core.model import NodeId, RegionId

routes = Routes()


def _host(text: str) -> str:
    if (why := host_refusal(text)) is not None:
        raise PydanticCustomError("bad_name", "{why}", {"why": why})
    return text


_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

HostName = Annotated[
    str,
    AfterValidator(_host),
    Field(
        description="A DNS name or an IP address.",
        json_schema_extra={
            "maxLength": 253,
            "anyOf": [{"pattern": rf"^{_LABEL}(\.{_LABEL})*$"}, {"format": "ipv6"}],
        },
    ),
]


class NodeTokenBody(Strict):
    """What a node with the token may become."""

    region: Name = Field(description="The only region that it may serve.")
    node: Name | None = Field(
        default=None, description="The only id that it may have; any if left out."
    )
    names: list[HostName] = Field(
        default=[],
        max_length=MAX_NAMES,
        description="Names by which other nodes call it, beside the address it enrols from.",
    )
    ttl_s: float = Field(
        default=TOKEN_TTL_S,
        gt=0,
        le=MAX_TOKEN_TTL_S,
        description="Seconds until the token is worth nothing.",
    )


class NodeTokenAnswer(View):
    """A token; it is shown this once."""

    id: str
    token: str
    region: str
    node: str | None
    names: list[str]
    expires_at: float


@routes.add(
    "POST",
    "/v1/node-tokens",
    scope=Scope.ADMIN,
    action="node-token.create",
    body=NodeTokenBody,
    answers={201: NodeTokenAnswer},
    problems=(503,),
)
async def create_token(call: Call, body: NodeTokenBody) -> Answer:
    """Make a one-time token with which a node gets its certificate."""
    node = NodeId(body.node) if body.node is not None else None
    created = await call.context.enrolment.create_token(
        RegionId(body.region), node, body.names, ttl_s=body.ttl_s
    )
    token, grant = created.token, created.grant
    call.facts.update(id=token.id, region=grant.region, node=grant.node, names=list(grant.names))
    view = NodeTokenAnswer(
        id=token.id,
        token=str(token),
        region=grant.region,
        node=grant.node,
        names=list(grant.names),
        expires_at=grant.expires_at,
    )
    return Answer(view, status=201)

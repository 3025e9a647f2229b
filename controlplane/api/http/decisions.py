"""Why somebody sits where they sit, and where somebody would go."""

from controlplane.api.decision_views import ExplainedView
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import DecisionBody
from controlplane.core.identity import Scope
from controlplane.core.shedding import Cost

routes = Routes()


@routes.add(
    "GET",
    "/v1/rooms/{room}/participants/{participant}/decision",
    scope=Scope.READ,
    cost=Cost.READ,
    answers={200: ExplainedView},
    problems=(404,),
)
async def explain(call: Call) -> Answer:
    """Explain why a participant sits where it sits: every candidate and why not."""
    explaining = call.context.explaining
    explained = await explaining.seat(call.ids["room"], call.ids["participant"])
    return Answer(ExplainedView.of(explained, call.caller))


@routes.add(
    "POST",
    "/v1/decisions",
    scope=Scope.READ,
    cost=Cost.READ,
    body=DecisionBody,
    answers={200: ExplainedView},
    problems=(503,),
)
async def decide(call: Call, body: DecisionBody) -> Answer:
    """Decide as a join would, and admit nobody."""
    join = body.to_join(call.room(body.room), call.client_address(body.client_ip))
    return Answer(ExplainedView.of(await call.context.explaining.preview(join), call.caller))

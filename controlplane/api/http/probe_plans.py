"""/v1/probe-plans: what a client should measure before it joins."""

from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import ProbePlanBody
from controlplane.api.views import ProbePlanAnswer
from controlplane.core.identity import Scope
from controlplane.core.shedding import Cost

routes = Routes()


@routes.add(
    "POST",
    "/v1/probe-plans",
    scope=Scope.JOIN,
    cost=Cost.READ,
    body=ProbePlanBody,
    answers={200: ProbePlanAnswer},
    problems=(503,),
)
async def plan_probes(call: Call, body: ProbePlanBody) -> Answer:
    """Choose the regions that a client should measure."""
    room = call.room(body.room)
    plan = await call.context.joins.probe_plan(call.client_address(body.client_ip), room)
    return Answer(ProbePlanAnswer.of(plan))

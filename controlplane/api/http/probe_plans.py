"""/v1/probe-plans: what a client should measure before it joins."""

from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import ProbePlanBody
from controlplane.api.views import ProbePlanAnswer

routes = Routes()


@routes.add(
    "POST", "/v1/probe-plans", body=ProbePlanBody, answers={200: ProbePlanAnswer}, problems=(503,)
)
async def plan_probes(call: Call, body: ProbePlanBody) -> Answer:
    """Choose the regions that a client should measure."""
    plan = await call.context.joins.probe_plan(call.client_address(body.client_ip))
    return Answer(ProbePlanAnswer.of(plan))

"""/v1/nodes: the fleet."""

from controlplane.api.fleet_views import NodeAnswer, NodeList
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.plan_views import DrainOutcome, DrainPlanAnswer
from controlplane.api.schemas import DrainBody, DrainQuery
from controlplane.core.identity import Scope

routes = Routes()

PATH = "/v1/nodes/{node}"


@routes.add("GET", "/v1/nodes", scope=Scope.ADMIN, answers={200: NodeList})
async def list_nodes(call: Call) -> Answer:
    """List all nodes."""
    views = await call.context.fleet.nodes()
    return Answer(NodeList(nodes=[NodeAnswer.of(view) for view in views]))


@routes.add("GET", PATH, scope=Scope.ADMIN, answers={200: NodeAnswer}, problems=(404,))
async def show_node(call: Call) -> Answer:
    """Show a node."""
    return Answer(NodeAnswer.of(await call.context.fleet.node(call.ids["node"])))


@routes.add(
    "PUT",
    PATH + "/drain",
    scope=Scope.ADMIN,
    action="node.drain",
    body=DrainBody,
    query=DrainQuery,
    answers={200: DrainOutcome},
    problems=(404, 409),
)
async def drain_node(call: Call, body: DrainBody, query: DrainQuery) -> Answer:
    """Drain a node: it takes nobody new, and who is left at the deadline is moved."""
    node, fleet = call.ids["node"], call.context.fleet
    if query.dry_run:
        plan = DrainPlanAnswer.of(await call.context.planning.drain(node))
        return Answer(plan, changed=False)
    asked = body.model_dump()
    call.facts.update(asked)
    return Answer(NodeAnswer.of(await fleet.drain(node, **asked)))


@routes.add(
    "DELETE",
    PATH + "/drain",
    scope=Scope.ADMIN,
    action="node.undrain",
    answers={200: NodeAnswer},
    problems=(404,),
)
async def undrain_node(call: Call) -> Answer:
    """Undo a drain."""
    return Answer(NodeAnswer.of(await call.context.fleet.undrain(call.ids["node"])))

"""/v1/nodes: the fleet."""

from controlplane.api.audit import audited
from controlplane.api.fleet_views import NodeAnswer, NodeList
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.plan_views import DrainOutcome, DrainPlanAnswer
from controlplane.api.schemas import DrainBody, DrainQuery

routes = Routes()

PATH = "/v1/nodes/{node}"


@routes.add("GET", "/v1/nodes", answers={200: NodeList})
async def list_nodes(call: Call) -> Answer:
    """List all nodes."""
    views = await call.context.fleet.nodes()
    return Answer(NodeList(nodes=[NodeAnswer.of(view) for view in views]))


@routes.add("GET", PATH, answers={200: NodeAnswer}, problems=(404,))
async def show_node(call: Call) -> Answer:
    """Show a node."""
    return Answer(NodeAnswer.of(await call.context.fleet.node(call.ids["node"])))


@routes.add(
    "PUT",
    PATH + "/drain",
    body=DrainBody,
    query=DrainQuery,
    answers={200: DrainOutcome},
    problems=(404, 409),
)
async def drain_node(call: Call, body: DrainBody, query: DrainQuery) -> Answer:
    """Drain a node: it takes nobody new, and who is left at the deadline is moved."""
    node, fleet = call.ids["node"], call.context.fleet
    if query.dry_run:
        return Answer(DrainPlanAnswer.of(await call.context.planning.drain(node)))
    asked = body.model_dump()
    with audited("node.drain", call.caller, node=node, **asked):
        view = await fleet.drain(node, **asked)
    return Answer(NodeAnswer.of(view))


@routes.add("DELETE", PATH + "/drain", answers={200: NodeAnswer}, problems=(404,))
async def undrain_node(call: Call) -> Answer:
    """Undo a drain."""
    node = call.ids["node"]
    with audited("node.undrain", call.caller, node=node):
        view = await call.context.fleet.undrain(node)
    return Answer(NodeAnswer.of(view))

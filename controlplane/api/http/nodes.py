"""/v1/nodes: the fleet."""

from controlplane.api.fleet_views import NodeAnswer, NodeList
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import DrainBody

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


@routes.add("PUT", PATH + "/drain", body=DrainBody, answers={200: NodeAnswer}, problems=(404, 409))
async def drain_node(call: Call, body: DrainBody) -> Answer:
    """Drain a node: it takes nobody new, and who is left at the deadline is moved."""
    fleet = call.context.fleet
    view = await fleet.drain(call.ids["node"], deadline_s=body.deadline_s, reason=body.reason)
    return Answer(NodeAnswer.of(view))


@routes.add("DELETE", PATH + "/drain", answers={200: NodeAnswer}, problems=(404,))
async def undrain_node(call: Call) -> Answer:
    """Undo a drain."""
    return Answer(NodeAnswer.of(await call.context.fleet.undrain(call.ids["node"])))

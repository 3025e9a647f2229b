"""/v1/rooms/{room}/participants/{participant}: where somebody goes."""

from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.joining import join
from controlplane.api.schemas import JoinBody
from controlplane.api.views import JoinedView, SeatView

routes = Routes()

PATH = "/v1/rooms/{room}/participants/{participant}"


@routes.add(
    "PUT", PATH, body=JoinBody, answers={201: JoinedView, 200: JoinedView}, problems=(451, 503)
)
async def join_room(call: Call, body: JoinBody) -> Answer:
    """Join a room, or get the same answer again.

    201 when the assignment is new, 200 when this session already had it.
    """
    address = call.client_address(body.client_ip)
    request = body.to_join(call.ids["room"], call.ids["participant"], address)
    joined = await join(call.context, request)
    return Answer(JoinedView.of(joined), status=201 if joined.created else 200)


@routes.add("GET", PATH, answers={200: SeatView}, problems=(404,))
async def look(call: Call) -> Answer:
    """Look where a participant sits."""
    seat = await call.context.joins.look(call.ids["room"], call.ids["participant"])
    return Answer(SeatView.of(seat))


@routes.add("DELETE", PATH, answers={204: None}, problems=(404,))
async def leave(call: Call) -> Answer:
    """Leave a room."""
    await call.context.joins.leave(call.ids["room"], call.ids["participant"])
    return Answer(status=204)

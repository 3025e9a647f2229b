"""/v1/rooms: who sits where, and the cascades."""

from controlplane.api.fleet_views import RoomAnswer, RoomList
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import RoomsQuery
from controlplane.core.model import RoomId

routes = Routes()


@routes.add("GET", "/v1/rooms", query=RoomsQuery, answers={200: RoomList})
async def list_rooms(call: Call, query: RoomsQuery) -> Answer:
    """List rooms in order of id, page by page."""
    after = None if query.after is None else RoomId(query.after)
    return Answer(RoomList.of(await call.context.rooms.page(after=after, limit=query.limit)))


@routes.add("GET", "/v1/rooms/{room}", answers={200: RoomAnswer})
async def show_room(call: Call) -> Answer:
    """Show a room: who sits where, the links, the delay; an unknown room is an empty one."""
    return Answer(RoomAnswer.of(await call.context.rooms.view(call.ids["room"])))

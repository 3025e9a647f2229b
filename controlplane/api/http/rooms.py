"""/v1/rooms: who sits where, and the cascades."""

from controlplane.api.fleet_views import RoomAnswer, RoomList
from controlplane.api.http.routing import Answer, Call, Routes
from controlplane.api.schemas import RoomsQuery
from controlplane.core.identity import Scope
from controlplane.core.shedding import Cost

routes = Routes()


@routes.add(
    "GET", "/v1/rooms", scope=Scope.READ, cost=Cost.READ, query=RoomsQuery, answers={200: RoomList}
)
async def list_rooms(call: Call, query: RoomsQuery) -> Answer:
    """List rooms in order of id, page by page."""
    caller = call.caller
    tenant = None if caller.is_admin else caller.tenant
    after = call.room(query.after)
    page = await call.context.rooms.page(tenant=tenant, after=after, limit=query.limit)
    return Answer(RoomList.of(page, caller))


@routes.add("GET", "/v1/rooms/{room}", scope=Scope.READ, cost=Cost.READ, answers={200: RoomAnswer})
async def show_room(call: Call) -> Answer:
    """Show a room: who sits where, the links, the delay; an unknown room is an empty one."""
    return Answer(RoomAnswer.of(await call.context.rooms.view(call.ids["room"]), call.caller))

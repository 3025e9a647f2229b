"""/v1/rooms/{room}/participants/{participant}: where somebody goes."""

from collections.abc import Hashable

from aiohttp import web

from controlplane.api.context import ApiContext
from controlplane.api.http.routing import Answer, Call, Routes, as_json
from controlplane.api.joining import join, join_again
from controlplane.api.schemas import JoinBody
from controlplane.api.views import JoinedView, SeatView
from controlplane.core.identity import Caller, Scope
from controlplane.core.shedding import Cost

routes = Routes()

PATH = "/v1/rooms/{room}/participants/{participant}"


def _asked(request: web.Request, caller: Caller, raw: bytes) -> Hashable:
    """Return all of a request that its answer depends on."""
    forwarded = tuple(request.headers.getall("X-Forwarded-For", ()))
    return caller.tenant, caller.name, request.path, raw, forwarded


async def _same_again(
    request: web.Request, context: ApiContext, caller: Caller, raw: bytes
) -> Answer | None:
    """Answer a request that was answered just before, while the seat is as it was."""
    text = await join_again(context, caller, _asked(request, caller, raw))
    return None if text is None else Answer(text, changed=False)


@routes.add(
    "PUT",
    PATH,
    scope=Scope.JOIN,
    action="participant.join",
    body=JoinBody,
    recall=_same_again,
    answers={201: JoinedView, 200: JoinedView},
    problems=(451, 503),
)
async def join_room(call: Call, body: JoinBody) -> Answer:
    """Join a room, or get the same answer again.

    201 when the assignment is new, 200 when this session already had it.
    """
    address = call.client_address(body.client_ip)
    request = body.to_join(call.ids["room"], call.ids["participant"], address)
    joined = await join(call.context, call.caller, request)
    call.facts["node"] = joined.node.id
    view = as_json(JoinedView.of(joined, call.caller))
    context = call.context
    asked = _asked(call.request, call.caller, call.raw)
    context.repeats.keep(asked, joined.assignment, view, now=context.clock.now())
    return Answer(view, status=201 if joined.created else 200, changed=joined.created)


@routes.add("GET", PATH, scope=Scope.READ, cost=Cost.READ, answers={200: SeatView}, problems=(404,))
async def look(call: Call) -> Answer:
    """Look where a participant sits."""
    seat = await call.context.joins.look(call.ids["room"], call.ids["participant"])
    return Answer(SeatView.of(seat, call.caller))


@routes.add(
    "DELETE",
    PATH,
    scope=Scope.JOIN,
    action="participant.leave",
    cost=Cost.REPEAT,
    answers={204: None},
    problems=(404,),
)
async def leave(call: Call) -> Answer:
    """Leave a room."""
    await call.context.joins.leave(call.ids["room"], call.ids["participant"])
    return Answer(status=204)

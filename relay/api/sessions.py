"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): begin, look at and end a client's sessions."""

import json
from dataclasses import asdict

from aiohttp import hdrs, web

from relay.api import tokens
from relay.api.state import NodeState
from relay.engines.base import Identity, MediaEngine, SessionAnswer
from relay.errors import (
    ConflictError,
    ContentTypeError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)

SLOTS_RELATION = "urn:thalweg:params:slots"
"""Link relation of the stream that tells which participant is in which slot."""

_ELSEWHERE = "try a fallback of the assignment, or join again with this node in exclude_nodes"


class Sessions:
    """Handlers of the WHIP and WHEP resources."""

    def __init__(self, engine: MediaEngine, state: NodeState) -> None:
        self._engine = engine
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """Return the URL table."""
        return [
            web.post("/whip/{room}/{participant}", self.whip),
            web.post("/whep/{room}/{participant}", self.whep),
            web.patch("/sessions/{session}", self.trickle),
            web.delete("/sessions/{session}", self.delete),
            web.get("/sessions/{session}/slots", self.slots, allow_head=False),
        ]

    async def whip(self, request: web.Request) -> web.Response:
        """Begin to publish."""
        who = self._authenticate(request)
        if not who.may_publish:
            raise ForbiddenError(
                "viewer_may_not_publish", "the token is a viewer's", "join as publisher"
            )
        offer = await _offer(request)
        self._admit(who)
        return self._created(who, self._engine.publish(who, offer))

    async def whep(self, request: web.Request) -> web.Response:
        """Begin to receive."""
        who = self._authenticate(request)
        pinned = request.query.get("participant")
        offer = await _offer(request)
        self._admit(who)
        begun = self._engine.subscribe(who, offer, pinned)
        response = self._created(who, begun)
        slots = f"</sessions/{begun.session}/slots>"
        response.headers.add("Link", f'{slots}; rel="{SLOTS_RELATION}"; type="text/event-stream"')
        return response

    async def trickle(self, request: web.Request) -> web.Response:
        """Take trickled candidates (RFC 8840): a lite agent learns addresses from checks, and needs none."""
        self._owned(request)
        if request.content_type != "application/trickle-ice-sdpfrag":
            raise ContentTypeError(
                "wrong_content_type",
                f"{request.content_type} is not application/trickle-ice-sdpfrag",
                "send a trickle ICE fragment (RFC 8840)",
            )
        await request.read()
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        """End the session."""
        session = self._owned(request)
        self._engine.end(session, "the client left")
        # FFmpeg's muxer complains about an answer without a body.
        return web.json_response({"ended": True})

    async def slots(self, request: web.Request) -> web.StreamResponse:
        """Stream which participant is in which slot."""
        session = self._owned(request)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"}
        )
        await response.prepare(request)
        try:
            async for views in self._engine.slot_views(session):
                data = json.dumps({"slots": [asdict(view) for view in views]})
                await response.write(f"event: slots\ndata: {data}\n\n".encode())
        except ConnectionResetError:
            return response
        await response.write_eof()
        return response

    # ---------------------------------------------------------------------------------------------

    def _authenticate(self, request: web.Request) -> Identity:
        """Return whom the token speaks for, which has to be the URL's participant."""
        claims = tokens.verify(_bearer(request), self._state.token_keys.keys, self._state.node)
        room, participant = request.match_info["room"], request.match_info["participant"]
        if (claims.room, claims.participant) != (room, participant):
            raise ForbiddenError(
                "token_for_other_participant",
                "the token is for another room or participant than the URL",
                "use the URLs of the same assignment",
            )
        return Identity(room, participant, claims.epoch, claims.role == "publisher")

    def _admit(self, who: Identity) -> None:
        """Apply the node's own rules. Nothing may be awaited between this and the session's beginning."""
        present = frozenset((one.room, one.participant) for one in self._engine.participants())
        refusal = self._state.admission.refusal(
            (who.room, who.participant),
            who.epoch,
            present=present,
            capacity=self._state.capacity,
            draining=self._state.draining or self._state.stopping,
        )
        if refusal is not None and refusal.code == "stale_epoch":
            raise ConflictError(
                refusal.code, refusal.detail, "a newer assignment exists: use that, or join again"
            )
        if refusal is not None:
            raise UnavailableError(refusal.code, refusal.detail, _ELSEWHERE)

    def _created(self, who: Identity, begun: SessionAnswer) -> web.Response:
        self._state.admission.admitted((who.room, who.participant), who.epoch)
        self._engine.end_participant(
            who.room,
            who.participant,
            up_to_epoch=who.epoch - 1,
            reason="replaced by a newer assignment",
        )
        return web.Response(
            status=201,
            text=begun.sdp,
            content_type="application/sdp",
            headers={
                hdrs.LOCATION: f"/sessions/{begun.session}",
                hdrs.ETAG: f'"{begun.session[:8]}"',
                "Accept-Patch": "application/trickle-ice-sdpfrag",
            },
        )

    def _owned(self, request: web.Request) -> str:
        """Return the session of the URL if the token belongs to its participant."""
        claims = tokens.verify(
            _bearer(request), self._state.token_keys.keys, self._state.node, running=True
        )
        session = request.match_info["session"]
        owner = self._engine.owner(session)
        # The same answer for both: a token does not tell which sessions of others exist.
        if owner is None or (owner.room, owner.participant) != (claims.room, claims.participant):
            raise NotFoundError(
                "no_such_session",
                "the session ended, or was never here",
                "begin a new one with POST",
            )
        return session


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError(
            "token_missing",
            "there is no bearer token",
            "send the assignment's token as 'Authorization: Bearer TOKEN'",
        )
    return token.strip()


async def _offer(request: web.Request) -> str:
    if request.content_type != "application/sdp":
        raise ContentTypeError(
            "wrong_content_type",
            f"{request.content_type} is not application/sdp",
            "send the SDP offer as application/sdp",
        )
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError("sdp_malformed", "the offer is not UTF-8", "send SDP") from error

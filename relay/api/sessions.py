"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): begin, look at and end a client's sessions."""

import asyncio
import json
from dataclasses import asdict, dataclass

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
    TooSlowError,
    UnauthenticatedError,
    UnavailableError,
)
from relay.transport.clock import wall

BODY_WITHIN_S = 10.0
"""The largest offer comes within a second on any line; who sends it drop by drop wants to keep a place."""

SLOTS_RELATION = "urn:thalweg:params:slots"
"""Link relation of the stream that tells which participant is in which slot."""

_ELSEWHERE = "try a fallback of the assignment, or join again with this node in exclude_nodes"


@dataclass(frozen=True, slots=True)
class _Token:
    """A genuine token, at the door where it was shown."""

    id: str
    door: str
    issued_at: float
    ends_at: float


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
        who, token = self._authenticate(request, "whip")
        if not who.may_publish:
            raise ForbiddenError(
                "viewer_may_not_publish", "the token is a viewer's", "join as publisher"
            )
        offer = await _offer(request)
        self._admit(who, token)
        return self._created(who, token, self._engine.publish(who, offer))

    async def whep(self, request: web.Request) -> web.Response:
        """Begin to receive."""
        who, token = self._authenticate(request, "whep")
        pinned = request.query.get("participant")
        offer = await _offer(request)
        self._admit(who, token)
        begun = self._engine.subscribe(who, offer, pinned)
        response = self._created(who, token, begun)
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
        await _body(request)
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

    def _authenticate(self, request: web.Request, door: str) -> tuple[Identity, _Token]:
        """Return whom the token speaks for, which has to be the URL's participant, and the token itself."""
        claims = tokens.verify(_bearer(request), self._state.token_keys.keys, self._state.node)
        room, participant = request.match_info["room"], request.match_info["participant"]
        if (claims.room, claims.participant) != (room, participant):
            raise ForbiddenError(
                "token_for_other_participant",
                "the token is for another room or participant than the URL",
                "use the URLs of the same assignment",
            )
        who = Identity(room, participant, claims.epoch, claims.role == "publisher")
        return who, _Token(claims.id, door, claims.issued_at, claims.ends_at)

    def _admit(self, who: Identity, token: _Token) -> None:
        """Apply the node's own rules. Nothing may be awaited between this and the session's beginning."""
        used, now = self._state.used_tokens, wall()
        if token.ends_at <= now:
            # It had not when the headers came. An offer that comes drop by drop must not outlive our memory of it.
            raise UnauthenticatedError(
                "token_expired", "the token ended before the offer was complete", tokens.NEXT
            )
        if used.is_used(token.id, token.door, issued_at=token.issued_at):
            raise UnauthenticatedError(
                "token_replayed",
                f"the token began a {token.door.upper()} session here already, or is older than this process",
                "join again in three seconds: the answer has a fresh token for the same seat",
            )
        if used.is_full(now):
            raise UnavailableError("too_many_sessions", "too many sessions begin here", _ELSEWHERE)
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

    def _created(self, who: Identity, token: _Token, begun: SessionAnswer) -> web.Response:
        # Not before: an offer that was refused may be mended and sent again.
        self._state.used_tokens.use(token.id, token.door, until=token.ends_at)
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
        """Return the session of the URL if the token is of its participant and epoch (RFC 9725, section 4.2).

        A fresh token of the same seat will do: a session outlives the one that it began with.
        """
        claims = tokens.verify(
            _bearer(request), self._state.token_keys.keys, self._state.node, running=True
        )
        session = request.match_info["session"]
        owner = self._engine.owner(session)
        # The same answer for both: a token does not tell which sessions of others exist.
        whose = (claims.room, claims.participant, claims.epoch)
        if owner is None or (owner.room, owner.participant, owner.epoch) != whose:
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
        return (await _body(request)).decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError("sdp_malformed", "the offer is not UTF-8", "send SDP") from error


async def _body(request: web.Request) -> bytes:
    if hdrs.CONTENT_ENCODING in request.headers:
        raise ContentTypeError(
            "wrong_content_encoding", "the body is encoded", "send it without Content-Encoding"
        )
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await request.read()
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidInputError(
            "body_broken", "the body did not come as its headers say", "send it again"
        ) from error
    except TimeoutError as error:
        raise TooSlowError(
            "body_too_slow",
            f"the body did not come within {BODY_WITHIN_S:.0f} s",
            "send it at once",
        ) from error

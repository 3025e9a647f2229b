"""TURN credentials that any replica can make and any TURN server of the region can check, offline.

The scheme is draft-uberti-behave-turn-rest-00 (coturn's `use-auth-secret`): user name "expiry:id", password
base64(HMAC-SHA1(secret, user name)). Each region has its own secret, derived from one master secret, so that a stolen
TURN server gives away its own region only.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.core.model import ParticipantId, RegionId, RoomId, TurnServer

DEFAULT_TTL_S = 3600
"""Servers check the expiry of new allocations only; refreshes go on. So this is the time in which a client may still
reconnect without asking again."""

MAX_TTL_S = 86_400
"""coturn accepts any expiry, ten years too: the cap has to be here."""

_USER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""coturn up to 4.14 used the user name as a format string in its Redis statistics (GHSA-4g7c-p5wg-j4hp)."""


@dataclass(frozen=True, slots=True)
class TurnCredential:
    """What goes into RTCIceServer."""

    username: str
    credential: str = field(repr=False)
    expires_at: int
    """Seconds since 1970."""


def region_secret(master: bytes, region: RegionId) -> str:
    """Return the region's secret in hexadecimal, as it stands in coturn's `static-auth-secret`."""
    return hmac.new(master, f"thalweg turn {region}".encode(), hashlib.sha256).hexdigest()


def turn_user(room: RoomId, participant: ParticipantId) -> str:
    """Return a user id that is stable for the participant, since quotas count per id, and reveals nothing."""
    digest = hashlib.sha256(f"{room}\n{participant}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:15]).decode()


def turn_credential(
    secret: str, user: str, *, now: float, ttl_s: int = DEFAULT_TTL_S
) -> TurnCredential:
    """Return a credential that opens allocations for `ttl_s` seconds, at least 1 and at most MAX_TTL_S.

    Raises ValueError for a user id with characters other than A-Z a-z 0-9 _ -.
    """
    if not _USER.fullmatch(user):
        raise ValueError("a TURN user id has 1 to 64 characters of A-Z a-z 0-9 _ -")
    expires_at = int(now) + max(1, min(ttl_s, MAX_TTL_S))
    username = f"{expires_at}:{user}"
    mac = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return TurnCredential(username, base64.b64encode(mac).decode(), expires_at)


def turn_urls(servers: Sequence[TurnServer], transports: Sequence[str]) -> tuple[str, ...]:
    """Return turn: and turns: URLs (RFC 7065), all UDP first, then TCP, then TLS: the order of what they cost media."""
    urls: list[str] = []
    for transport in ("udp", "tcp", "tls"):
        if transport in transports:
            urls.extend(_url(server, transport) for server in servers)
    return tuple(urls)


def _url(server: TurnServer, transport: str) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    if transport == "tls":
        return f"turns:{host}:{server.tls_port}?transport=tcp"
    return f"turn:{host}:{server.port}?transport={transport}"

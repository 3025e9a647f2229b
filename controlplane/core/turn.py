"""TURN credentials that any replica can make and any TURN server of the region can check, offline.

The scheme is draft-uberti-behave-turn-rest-00 (coturn's `use-auth-secret`): user name "expiry:id", password
base64(HMAC-SHA1(secret, user name)). The secret is derived from a master secret, the region and the clock's period:

- by region, so that a stolen TURN server gives away its own region only;
- by period, because coturn accepts any expiry, ten years too. The one who knows a secret can sign anything with it, so
  the cap is the secret's own end: it leaves the servers MAX_TTL_S after its period, and with it all that it signed.

Several masters overlap while one replaces another: all of them are delivered, the newest one signs.
"""

import base64
import functools
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from controlplane.core.model import ParticipantId, Region, RegionId, RoomId, TurnServer
from controlplane.core.session import TurnOrders, TurnSecret

DEFAULT_TTL_S = 3600
"""Servers check the expiry of new allocations only; refreshes go on. So this is the time in which a client may still
reconnect without asking again."""

PERIOD_S = 6 * 3600
"""How long a derived secret signs. Each period begins at a multiple of it since 1970, the same on every replica."""

MAX_TTL_S = PERIOD_S
"""No credential lives longer. A secret lives as long as the last one that it may sign: whatever was signed with it, for
ever too, is refused at most 2 * PERIOD_S + LEAD_S (12 h 10 min) after the servers first had it."""

LEAD_S = 600
"""A secret is delivered this long before it signs. Nodes get snapshots every 5 s; the rest is for replicas that get a
new file minutes after each other, and for their clocks."""

MAX_MASTERS = 4
"""coturn tries every secret with each new allocation; more than an old and a new one is a file that nobody tidies."""

_USER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""coturn up to 4.14 used the user name as a format string in its Redis statistics (GHSA-4g7c-p5wg-j4hp)."""


@dataclass(frozen=True, slots=True)
class TurnCredential:
    """What goes into RTCIceServer."""

    username: str
    credential: str = field(repr=False)
    expires_at: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class TurnMasters:
    """The master secrets of all regions."""

    secrets: tuple[bytes, ...] = field(repr=False)
    """At least one; the newest first."""
    since: float
    """When this became the list, in seconds since 1970."""

    def signing(self, now: float) -> bytes:
        """Return the one that signs: the newest, unless it is younger than LEAD_S and there is one before it."""
        return self.secrets[0] if now - self.since >= LEAD_S else self.secrets[:2][-1]


def period(now: float) -> int:
    """Return the number of the period that `now` is in."""
    return int(now // PERIOD_S)


def region_secret(master: bytes, region: RegionId, number: int) -> str:
    """Return the region's secret of a period in hexadecimal, as it stands in coturn's `turn_secret` table."""
    return hmac.new(master, f"thalweg turn {region} {number}".encode(), hashlib.sha256).hexdigest()


def signing_secret(masters: TurnMasters, region: RegionId, now: float) -> str:
    """Return the secret that signs the region's credentials now."""
    return region_secret(masters.signing(now), region, period(now))


def turn_orders(
    masters: TurnMasters, region: Region, media_hosts: Iterable[str], now: float
) -> TurnOrders:
    """Return what the region's TURN servers have to know now; `media_hosts` are those of its nodes.

    A node counts as long as it is known, a lost one too: permissions are renewed every few minutes (RFC 8656, section
    9), and a call over a node that only the control plane lost goes on.
    """
    hosts = map(_address, media_hosts)
    return TurnOrders(
        realm=region.id,
        secrets=tuple(_secrets(masters, region.id, now)),
        peers=tuple(sorted({host for host in hosts if host is not None})),
        servers=region.turn_servers,
        transports=region.turn_transports,
    )


def _secrets(masters: TurnMasters, region: RegionId, now: float) -> Iterator[TurnSecret]:
    """Yield every secret by which a good credential may be signed, from LEAD_S before its period on."""
    for master in masters.secrets:
        for number in range(period(now - MAX_TTL_S), period(now + LEAD_S) + 1):
            not_after = (number + 1) * PERIOD_S + MAX_TTL_S
            yield TurnSecret(region_secret(master, region, number), not_after)


@functools.lru_cache(maxsize=4096)
def _address(host: str) -> str | None:
    """Return an IP address in its usual form; None for a name, which a TURN server's list cannot have."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


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

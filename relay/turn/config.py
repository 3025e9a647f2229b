"""turnserver.conf: a relay to the region's SFUs and to nothing else. Pure.

Everything that changes while people are in calls (secrets, peers) is in the database, which coturn reads again by
itself. What is here changes with the topology or the command line only, since it takes a restart.

The rules of peers: every IPv4 and every IPv6 address is denied, the forms in which an IPv6 address stands for an IPv4
one (mapped, compatible, 6to4, NAT64) among them, because coturn before 4.9.0 lets them pass a list of IPv4 ranges
(CVE-2026-27624). Only an address that the database allows overrules that.
"""

from collections.abc import Iterator
from pathlib import Path

from relay.turn.model import Listener, TurnSettings

USER_QUOTA = 24
"""Allocations of one participant. Two connections, three transports and two interfaces make 12; as many of a call
before may be left, since coturn keeps those of a client that vanished for up to ten minutes."""

MAX_BYTES_PER_S = 2_500_000
"""Of one allocation and direction: 20 Mbit/s is more than a subscriber's screen, camera and slots take."""

STALE_NONCE_S = 600
"""RFC 8489, section 9.2: nonces end. Clients repeat the request with the new one."""

DATABASE = "turn.db"
CONFIG = "turnserver.conf"

_ALWAYS = (
    "use-auth-secret",
    "fingerprint",
    f"stale-nonce={STALE_NONCE_S}",
    "no-cli",
    "no-tcp-relay",
    "no-multicast-peers",
    "denied-peer-ip=0.0.0.0-255.255.255.255",
    "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "no-dtls",
    "no-tlsv1",
    "no-tlsv1_1",
    "no-rfc5780",
    "no-stun-backward-compatibility",
    "response-origin-only-with-rfc5780",
    "no-software-attribute",
    "no-stdout-log",
    "log-file=stdout",
    "simple-log",
)


def render(
    settings: TurnSettings, realm: str, listener: Listener, transports: frozenset[str]
) -> str:
    """Return the whole file."""
    return "".join(f"{line}\n" for line in _lines(settings, realm, listener, transports))


def find_listener(listeners: tuple[Listener, ...], host: str) -> Listener | str:
    """Return the server that this one is, or why there is none."""
    if not host and len(listeners) == 1:
        return listeners[0]
    names = ", ".join(one.host for one in listeners) or "none"
    if not host and listeners:
        return f"the topology names several TURN servers ({names}): say which is this one with --turn-host"
    same = [one for one in listeners if one.host == host]
    return same[0] if same else f"the topology has no TURN server {host} here: {names}"


def has_tls(settings: TurnSettings, transports: frozenset[str]) -> bool:
    """Return whether there is a TLS listener."""
    return "tls" in transports and settings.cert is not None


def _lines(
    settings: TurnSettings, realm: str, listener: Listener, transports: frozenset[str]
) -> Iterator[str]:
    yield "# Written by thalweg-relay; changes are overwritten."
    yield f"realm={realm}"
    yield f"userdb={settings.directory / DATABASE}"
    yield f"pidfile={settings.directory / 'turnserver.pid'}"
    for address in settings.listen:
        yield f"listening-ip={address}"
        yield f"relay-ip={address}"
    for mapping in settings.external:
        yield f"external-ip={mapping}"
    first, last = settings.ports
    yield f"min-port={first}"
    yield f"max-port={last}"
    yield f"listening-port={listener.port}"
    if "udp" not in transports:
        yield "no-udp"
    if "tcp" not in transports:
        yield "no-tcp"
    if has_tls(settings, transports):
        yield f"tls-listening-port={listener.tls_port}"
        yield f"cert={settings.cert}"
        yield f"pkey={settings.key}"
    else:
        yield "no-tls"
    yield f"user-quota={USER_QUOTA}"
    # One allocation takes one port: without this the last ones fail with 508 instead of 486, and as late.
    yield f"total-quota={last - first + 1}"
    yield f"max-bps={MAX_BYTES_PER_S}"
    yield from _ALWAYS


def unsafe_path(path: Path) -> str | None:
    """Return why a path cannot stand in the file, which has no quotes; None when it can."""
    text = str(path)
    if not text.isprintable() or any(char in text for char in " #\"'"):
        return f"{text!r} has blanks, quotes or '#', which turnserver.conf cannot express"
    return None

"""What a log must not say: credentials, session descriptions, and whole addresses of people."""

import ipaddress
import re
from collections.abc import Mapping

MASK = "[redacted]"

OURS = frozenset({"http", "grpc", "udp", "address", "target", "url", "host"})
"""Fields that say where processes of this system listen, or reach each other: operators need them whole."""

_SECRETS = tuple(
    (needle, re.compile(pattern, re.DOTALL))
    for needle, pattern in (
        ("eyJ", r"eyJ[\w-]{4,}\.[\w-]*\.?[\w-]*"),  # a JWT (RFC 7519): its header begins so
        ("tw_", r"tw_[0-9a-f]{4,}_\w+"),  # an API key
        ("twjoin.", r"twjoin\.[\w.-]+"),  # a join token
        ("earer ", r"(?i:bearer)\s+(?!realm)[\w.~+/=-]{8,}"),
        (":", r"\b\d{9,11}:[\w-]+"),  # a TURN user name: when it ends, and an id
        ("=", r"(?<![\w+/])[A-Za-z0-9+/]{27}=(?![\w=])"),  # a TURN password: Base64 of a SHA-1
        ("-----BEGIN", r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|$)"),  # a key in PEM
        ("v=0", r"v=0(?:\\[rn]|[\r\n]).*?(?=\"|$)"),  # SDP, as it is or inside JSON
        ("ice-", r"ice-(?:ufrag|pwd):[^\r\n\"\\]+"),
        ("fingerprint:", r"fingerprint:[^\r\n\"\\]+"),
        ("candidate:", r"candidate:[^\r\n\"\\]+"),
    )
)
"""What has to be in a line for it to be worth a search, and what is searched: most lines have none of it."""

_IPV4 = re.compile(r"(?<![\w.])(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}(?![\w.]|/(?:\d|1\d|2[0-4])\b)")

_IPV6 = re.compile(
    # No address has more than 45 characters: without the bounds, a row of colons would take the square of its length.
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,40}:[0-9A-Fa-f:.]{0,40}(?![\w:]|/\d)"
)

_DEPTH = 4
"""Of lists and mappings inside an entry that are looked into; what lies deeper is left out."""


def without_secrets(text: str) -> str:
    """Return a line with MASK in the place of each credential and session description."""
    for needle, pattern in _SECRETS:
        if needle in text:
            text = pattern.sub(MASK, text)
    return text


def without_addresses(text: str) -> str:
    """Return a text with addresses cut to their /24 or /48; those of this machine alone stay."""
    if text.count(".") >= 3:
        text = _IPV4.sub(_cut_v4, text)
    if text.count(":") >= 2:
        text = _IPV6.sub(_cut_v6, text)
    return text


def redacted(entry: Mapping[str, object]) -> dict[str, object]:
    """Return a log entry without whole addresses, but for those in the fields OURS."""
    return {name: value if name in OURS else _plain(value, _DEPTH) for name, value in entry.items()}


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return without_addresses(value)
    if not depth:
        return "…"
    if isinstance(value, Mapping):
        return {without_addresses(str(k)): _plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, depth - 1) for one in value]
    return without_addresses(str(value))


def _cut_v4(match: re.Match[str]) -> str:
    first = match[1].partition(".")[0]
    return match[0] if first in ("0", "127") else f"{match[1]}.0/24"


def _cut_v6(match: re.Match[str]) -> str:
    try:
        address = ipaddress.IPv6Address(match[0].rstrip("."))
    except ValueError:
        return match[0]  # a time of day, a fingerprint
    if address.is_loopback or address.is_unspecified:
        return match[0]
    return str(ipaddress.IPv6Network((address, 48), strict=False))

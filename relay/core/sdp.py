"""SDP offers of WHIP and WHEP clients, read strictly (RFC 8866, 9429).

aiortc's SDP code passes over rid lines and asserts its input; an open port needs a parser that refuses with a
reason. What this one does not know it ignores, as SDP demands.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.core.model import Codec

MAX_SIZE = 64 * 1024
"""Of an offer in bytes. Chromium's largest with dozens of m-lines is about 40 KiB."""

MAX_MEDIA = 64
"""m-lines in one offer."""

MAX_SSRCS = 64
"""Announced for one m-line; a simulcast of three layers with repairs has six. Those that come later are passed over."""


_ICE_CREDENTIAL = re.compile(r"[!-9;-~]{1,256}")
"""RFC 8839, section 5.4, with every visible character but the colon, which parts two ufrags in a check."""


class SdpError(ValueError):
    """An offer that cannot be answered; `code` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class OfferedMedia:
    """One m-line of an offer."""

    kind: str
    """"audio", "video", or something that is rejected, such as "application"."""
    mid: str
    direction: str = "sendrecv"
    codecs: dict[int, Codec] = field(default_factory=dict)
    """Payload type → codec in the client's order of preference, RTX not among them."""
    rtx: dict[int, int] = field(default_factory=dict)
    """Media payload type → payload type of its RTX (RFC 4588)."""
    feedback: dict[int, set[str]] = field(default_factory=dict)
    """Payload type → rtcp-fb values, such as "nack pli"."""
    extensions: dict[str, int] = field(default_factory=dict)
    """Header extension URI → id."""
    ssrcs: list[int] = field(default_factory=list)
    rtx_ssrcs: dict[int, int] = field(default_factory=dict)
    """RTX SSRC → media SSRC, from ssrc-group:FID (RFC 5576)."""
    reduced_size: bool = False
    """Whether RTCP may come without the report that begins a compound (RFC 5506)."""
    rejected: bool = False
    """Offered with port 0 outside the bundle."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client offers."""

    media: tuple[OfferedMedia, ...]
    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]
    """Hash function in lower case and value in upper case with colons (RFC 8122)."""
    setup: str
    """"actpass", "active" or "passive" (RFC 5763)."""


@dataclass(slots=True)
class _Raw:
    header: str
    attributes: list[tuple[str, str]]


def parse_offer(text: str) -> Offer:
    """Read an offer.

    Raises `SdpError` with one of the codes `sdp_malformed`, `sdp_no_media`, `sdp_no_ice`, `sdp_no_dtls`,
    `sdp_not_bundled`.
    """
    if len(text) > MAX_SIZE:
        raise SdpError("sdp_malformed", f"the offer is longer than {MAX_SIZE} bytes")
    session, sections = _split(text)
    if not sections:
        raise SdpError("sdp_no_media", "the offer has no m-line")
    if len(sections) > MAX_MEDIA:
        raise SdpError("sdp_malformed", f"the offer has more than {MAX_MEDIA} m-lines")
    media = tuple(_media(raw, index) for index, raw in enumerate(sections))
    mids = [one.mid for one in media]
    if len(set(mids)) != len(mids):
        raise SdpError("sdp_malformed", "two m-lines have the same mid")
    if len(media) > 1 and not _bundled(session, [one.mid for one in media if not one.rejected]):
        raise SdpError("sdp_not_bundled", "all m-lines have to be in one BUNDLE group (RFC 9143)")
    everything = session + [pair for raw in sections for pair in raw.attributes]
    ufrag, pwd = _first(everything, "ice-ufrag"), _first(everything, "ice-pwd")
    if not _ICE_CREDENTIAL.fullmatch(ufrag) or not _ICE_CREDENTIAL.fullmatch(pwd):
        raise SdpError(
            "sdp_no_ice", "the offer has no ice-ufrag and ice-pwd of 1 to 256 characters"
        )
    fingerprints = tuple(_fingerprint(value) for name, value in everything if name == "fingerprint")
    setup = _first(everything, "setup") or "actpass"
    if not fingerprints or setup not in ("actpass", "active", "passive"):
        raise SdpError("sdp_no_dtls", "the offer has no usable fingerprint and setup attributes")
    return Offer(media, ufrag, pwd, tuple(dict.fromkeys(fingerprints)), setup)


def _split(text: str) -> tuple[list[tuple[str, str]], list[_Raw]]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if not lines or lines[0] != "v=0":
        raise SdpError("sdp_malformed", "an SDP begins with the line v=0")
    session: list[tuple[str, str]] = []
    sections: list[_Raw] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise SdpError("sdp_malformed", f"line {number} is not of the form x=value")
        if line[0] == "m":
            sections.append(_Raw(line[2:], []))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            (sections[-1].attributes if sections else session).append((name, value.strip()))
    return session, sections


def _bundled(session: list[tuple[str, str]], mids: list[str]) -> bool:
    groups = [
        value.split()[1:]
        for name, value in session
        if name == "group" and value.startswith("BUNDLE")
    ]
    return any(set(mids) <= set(group) for group in groups)


def _first(attributes: list[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in attributes if name == wanted), "")


def _fingerprint(value: str) -> tuple[str, str]:
    function, _, digest = value.partition(" ")
    return function.lower(), digest.strip().upper()


def _number(value: str, limit: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 10 or int(value) > limit:
        raise SdpError("sdp_malformed", f"{value[:20]!r} is not a number up to {limit}")
    return int(value)


def _media(raw: _Raw, index: int) -> OfferedMedia:
    parts = raw.header.split()
    if len(parts) < 4:
        raise SdpError("sdp_malformed", f"m-line {index + 1} is incomplete")
    kind, port, _, *formats = parts
    media = OfferedMedia(kind, _first(raw.attributes, "mid") or str(index))
    bundle_only = any(name == "bundle-only" for name, _ in raw.attributes)
    media.rejected = _number(port.partition("/")[0], 65535) == 0 and not bundle_only
    if kind not in ("audio", "video"):
        return media
    payload_types = list(dict.fromkeys(_number(one, 127) for one in formats))  # 128 at most
    for name, value in raw.attributes:
        if name in ("sendonly", "recvonly", "sendrecv", "inactive"):
            media.direction = name
        elif name == "rtcp-rsize":
            media.reduced_size = True
        elif name == "extmap":
            _extmap(media, value)
        elif name in ("ssrc", "ssrc-group"):
            _ssrc(media, name, value)
    _codecs(media, payload_types, raw.attributes)
    _feedback(media, payload_types, raw.attributes)
    return media


def _ssrc(media: OfferedMedia, name: str, value: str) -> None:
    if name == "ssrc":
        ssrc = _number(value.partition(" ")[0], 0xFFFFFFFF)
        if ssrc not in media.ssrcs and len(media.ssrcs) < MAX_SSRCS:
            media.ssrcs.append(ssrc)
    elif value.startswith("FID "):
        numbers = [_number(one, 0xFFFFFFFF) for one in value.split()[1:]]
        if len(numbers) == 2:
            media.rtx_ssrcs[numbers[1]] = numbers[0]


def _feedback(
    media: OfferedMedia, payload_types: list[int], attributes: list[tuple[str, str]]
) -> None:
    for name, value in attributes:
        if name == "rtcp-fb":
            pt, _, what = value.partition(" ")
            for one in payload_types if pt == "*" else [_number(pt, 127)]:
                media.feedback.setdefault(one, set()).add(what)


def _rtpmap(value: str) -> Mapping[int, tuple[str, int, int]]:
    pt, _, encoding = value.partition(" ")
    name, rate, channels = [*encoding.split("/"), "", ""][:3]
    if not rate:
        raise SdpError("sdp_malformed", f"rtpmap {value[:40]!r} names no clock rate")
    count = _number(channels, 255) if channels else 0
    return {_number(pt, 127): (name.lower(), _number(rate, 10_000_000), count)}


def _extmap(media: OfferedMedia, value: str) -> None:
    number, _, rest = value.partition(" ")
    uri = rest.split(" ")[0]
    if uri:
        media.extensions[uri] = _number(number.partition("/")[0], 255)


def _codecs(
    media: OfferedMedia, payload_types: list[int], attributes: list[tuple[str, str]]
) -> None:
    maps: dict[int, tuple[str, int, int]] = {}
    fmtp: dict[int, str] = {}
    for name, value in attributes:
        if name == "rtpmap":
            maps.update(_rtpmap(value))
        elif name == "fmtp":
            number, _, settings = value.partition(" ")
            fmtp[_number(number, 127)] = settings.replace(" ", "")
    for pt in payload_types:
        if pt not in maps:
            continue
        encoding, rate, channels = maps[pt]
        if encoding == "rtx":
            apt = parameters(fmtp.get(pt, "")).get("apt", "")
            if apt:
                media.rtx[_number(apt, 127)] = pt
        else:
            media.codecs[pt] = Codec(encoding, rate, channels, fmtp.get(pt, ""))


def parameters(fmtp: str) -> dict[str, str]:
    """Return the format parameters as a dictionary with lower-case names."""
    pairs = (part.partition("=") for part in fmtp.split(";") if part)
    return {name.lower(): value for name, _, value in pairs}

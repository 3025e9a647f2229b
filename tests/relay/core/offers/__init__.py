"""Offers: of real clients, as they were recorded, and the smallest that is complete."""

from pathlib import Path

MINIMAL = "\r\n".join(
    [
        "v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-ufrag:abcd", "a=ice-pwd:" + 22 * "p",
        "a=fingerprint:sha-256 AB:CD", "a=setup:actpass",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:a", "a=sendonly", "a=rtpmap:111 opus/48000/2", "",
    ]
)  # fmt: skip


def recorded(name: str) -> str:
    """Return an offer with the line ends that it had."""
    return (Path(__file__).parent / f"{name}.sdp").read_text().replace("\n", "\r\n")

"""Small offers, good and bad."""

from tests.relay.core.offers import recorded

PUBLISH = recorded("chromium-publish")
RECEIVE = recorded("chromium-receive")


def offer(*lines: str, direction: str = "sendrecv") -> str:
    """Return an offer with one video m-line and these attributes of it."""
    return "\r\n".join(
        [
            "v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-ufrag:abcd", "a=ice-pwd:" + 22 * "p",
            "a=fingerprint:sha-256 " + ":".join(["AB"] * 32), "a=setup:actpass",
            "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:0", f"a={direction}", *lines, "",
        ]
    )  # fmt: skip

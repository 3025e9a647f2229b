"""ICE-lite (RFC 8445, section 2.5) for many sessions on one port: who sent this check, and the answer.

A lite agent needs no checks of its own (the peer sends one now and then, for the round trip). It answers those of the
client, which nominates; the user name's first half is the ufrag that the SDP answer gave the client, and leads to the
session.
"""

from dataclasses import dataclass

from relay.core import stun


@dataclass(frozen=True, slots=True)
class Checked:
    """A connectivity check that authenticated."""

    nominated: bool
    response: bytes


def local_ufrag(request: stun.Message) -> str:
    """Return whom a check is for, empty for a plain Binding request."""
    return request.username.partition(":")[0]


def check(request: stun.Message, source: tuple[str, int], password: str) -> Checked | None:
    """Return the answer to a connectivity check, or None if it is not authentic by our password."""
    if not request.authentic(password):
        return None
    response = stun.binding_success(request.transaction, source, password)
    return Checked(stun.USE_CANDIDATE in request.attributes, response)


def answer_probe(request: stun.Message, source: tuple[str, int]) -> bytes | None:
    """Return the answer to a plain Binding request, by which nodes and clients measure round trips.

    None if the answer were larger than the request: a port that multiplies what it gets is a weapon against
    whoever's address is forged. Those who measure pad their requests.
    """
    if stun.USERNAME in request.attributes:
        return None
    response = stun.binding_success(request.transaction, source)
    return response if len(response) <= len(request.datagram) else None

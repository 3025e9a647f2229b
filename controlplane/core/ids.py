"""Which identifiers are accepted.

Rooms, participants and sessions are the caller's own words and stand in URLs unescaped: RFC 3986 unreserved
characters. Nodes and regions are the operators' names and stand in certificates and labels: a DNS label's
characters. A refusal is a sentence for the caller, None means accepted.
"""

import re

from controlplane.core.model import NodeId, ParticipantId, RoomId
from controlplane.errors import InvalidInputError

MAX_ID = 128
MAX_NAME = 63
"""Length of a DNS label (RFC 1035, 2.3.4)."""

_ID = re.compile(r"[A-Za-z0-9._~-]+")
_NAME = re.compile(r"[a-z][a-z0-9-]*")


def id_refusal(text: str) -> str | None:
    """Return why `text` is no room, participant or session id, or None if it is one."""
    if not text:
        return "it is empty"
    if len(text) > MAX_ID:
        return f"it has {len(text)} characters, at most {MAX_ID} are allowed"
    if not _ID.fullmatch(text):
        return "only the characters A-Z a-z 0-9 . _ ~ - are allowed"
    if text in {".", ".."}:
        return "it would be taken for a path segment with a meaning (RFC 3986, 5.2.4)"
    return None


def room_refusal(text: str) -> str | None:
    """Return why `text` is no internal room id (core/identity.py), ROOM or TENANT:ROOM, or None if it is one."""
    tenant, separator, room = text.partition(":")
    if not separator:
        return id_refusal(text)
    return name_refusal(tenant) or id_refusal(room)


def name_refusal(text: str) -> str | None:
    """Return why `text` is no node or region name, or None if it is one."""
    if not text:
        return "it is empty"
    if len(text) > MAX_NAME:
        return f"it has {len(text)} characters, at most {MAX_NAME} are allowed"
    if not _NAME.fullmatch(text):
        return "only a-z 0-9 - are allowed, beginning with a letter"
    return None


def parse_room(text: str) -> RoomId:
    """Return a room id. Raises InvalidInputError ("bad-room-id")."""
    return RoomId(_accept(text, "room", id_refusal(text)))


def parse_participant(text: str) -> ParticipantId:
    """Return a participant id. Raises InvalidInputError ("bad-participant-id")."""
    return ParticipantId(_accept(text, "participant", id_refusal(text)))


def parse_node(text: str) -> NodeId:
    """Return a node id. Raises InvalidInputError ("bad-node-id")."""
    return NodeId(_accept(text, "node", name_refusal(text)))


def _accept(text: str, kind: str, refusal: str | None) -> str:
    if refusal is not None:
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise InvalidInputError(
            f"bad-{kind}-id", f"{shown!r} is not a {kind} id: {refusal}.", "Choose another id."
        )
    return text

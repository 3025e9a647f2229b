"""Who asks, what they may do, and how the rooms of one tenant are kept apart from those of another.

A room's internal id is unique in the whole deployment: a room of the tenant `default` keeps the id that callers give
it, a room `standup` of the tenant `acme` is `acme:standup`. No caller can write the colon, so tenants cannot reach each
other's rooms by choosing names. The API's doors translate: `Caller.room` on the way in, `Caller.shown` on the way out.
Everything behind the doors, nodes and tokens too, knows internal ids only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from controlplane.core.ids import name_refusal, parse_room
from controlplane.core.model import RoomId
from controlplane.errors import ForbiddenError, InvalidInputError, NotFoundError

DEFAULT_TENANT = "default"
"""Of a deployment that has no others."""

SEPARATOR = ":"
"""Between tenant and room; in no id of a caller's."""


class Scope(StrEnum):
    """What a caller may do."""

    JOIN = "join"
    """Let people into its own rooms and out of them; ask for probe plans."""
    READ = "read"
    """Look at its own rooms, their decisions and events."""
    ADMIN = "admin"
    """Topology, nodes, drains, metrics, the audit log, and looking at the rooms of all tenants."""


_KNOWN = frozenset(map(str, Scope))

TENANT_SCOPES = frozenset({Scope.JOIN, Scope.READ})
"""Those that reach no further than the tenant's own rooms."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A signalling server or an operator, as its credentials say. `parse_grant` keeps admins in the default tenant."""

    name: str
    """Of the API key, of the JWT's key, or of the certificate."""
    tenant: str = DEFAULT_TENANT
    scopes: frozenset[Scope] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether it sees all tenants, and their rooms by their internal ids."""
        return Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise ForbiddenError ("scope-missing") unless the caller has a scope; admins may look at everything."""
        if scope in self.scopes or (scope is Scope.READ and self.is_admin):
            return
        raise ForbiddenError(
            "scope-missing",
            f"this call needs the scope {scope}, and {self.name} has {said(self.scopes)}",
            "use a key with this scope; `thalweg apikey create --scope` makes one",
            extra={"scope": scope.value},
        )

    def room(self, text: str) -> RoomId:
        """Return the internal id of a room that the caller names; admins may write TENANT:ROOM.

        Raises InvalidInputError ("bad-room-id"), and NotFoundError ("room-not-found") for somebody else's room, as for
        one that does not exist.
        """
        tenant, separator, name = text.partition(SEPARATOR)
        if not separator or name_refusal(tenant) is not None:
            return qualified(self.tenant, parse_room(text))
        room = qualified(tenant, parse_room(name))
        if self.is_admin:
            return room
        raise NotFoundError(
            "room-not-found", f"There is no room {text}.", "Name your own rooms without a tenant."
        )

    def shown(self, room: RoomId) -> str:
        """Return a room's id as this caller knows it."""
        return room if self.is_admin else bare(room)

    def sees(self, room: RoomId) -> bool:
        """Return whether the room is one of the caller's."""
        return self.is_admin or tenant_of(room) == self.tenant


NOBODY = Caller("")
"""Calls a route that is open."""


def qualified(tenant: str, room: RoomId) -> RoomId:
    """Return the internal id of a tenant's room."""
    return room if tenant == DEFAULT_TENANT else RoomId(f"{tenant}{SEPARATOR}{room}")


def bare(room: RoomId) -> str:
    """Return a room's id as its tenant knows it."""
    return room.rpartition(SEPARATOR)[2]


def tenant_of(room: RoomId) -> str:
    """Return the tenant of an internal room id."""
    tenant, separator, _ = room.partition(SEPARATOR)
    return tenant if separator else DEFAULT_TENANT


def said(scopes: Iterable[Scope]) -> str:
    """Return scopes as people write them, in the order of what they allow."""
    held = frozenset(scopes)
    return ",".join(scope for scope in Scope if scope in held) or "none"


def parse_grant(tenant: str | None, scopes: Iterable[str] | None) -> tuple[str, frozenset[Scope]]:
    """Return tenant and scopes of a credential, with what is meant where they are left out.

    A credential that says neither is an operator's and may everything; one that names a tenant may what reaches only
    that tenant's rooms. Raises InvalidInputError ("bad-tenant", "bad-scope").
    """
    if tenant is not None:
        why_not = name_refusal(tenant)
        if why_not is not None:
            raise InvalidInputError("bad-tenant", f"{tenant[:64]!r} is no tenant: {why_not}")
    if scopes is None:
        return tenant or DEFAULT_TENANT, TENANT_SCOPES if tenant else frozenset(Scope)
    granted: set[Scope] = set()
    for text in scopes:
        if text not in _KNOWN:
            known = said(Scope)
            raise InvalidInputError("bad-scope", f"{text[:64]!r} is no scope; there are {known}")
        granted.add(Scope(text))
    if not granted:
        raise InvalidInputError("bad-scope", "it has no scope, so it could do nothing")
    if Scope.ADMIN in granted and tenant not in {None, DEFAULT_TENANT}:
        detail = f"the scope admin reaches all tenants, so a key of tenant {tenant} cannot have it"
        raise InvalidInputError("bad-scope", detail)
    return tenant or DEFAULT_TENANT, frozenset(granted)

"""Callers, scopes, tenants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.identity import (
    Caller,
    Scope,
    parse_grant,
    qualified,
    said,
    tenant_of,
)
from controlplane.core.model import RoomId
from controlplane.errors import ForbiddenError, InvalidInputError, NotFoundError

JOIN, READ, ADMIN = Scope.JOIN, Scope.READ, Scope.ADMIN
ACME = Caller("app", "acme", frozenset({JOIN, READ}))
BETA = Caller("app", "beta", frozenset({JOIN, READ}))
PLAIN = Caller("app", scopes=frozenset({JOIN, READ}))
ROOT = Caller("ops", scopes=frozenset(Scope))

IDS = st.from_regex(r"[A-Za-z0-9._~-]{1,128}", fullmatch=True).filter(
    lambda text: text not in {".", ".."}
)
TENANTS = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ((), ()),
        ((JOIN,), (JOIN,)),
        ((READ,), (READ,)),
        ((ADMIN,), (READ, ADMIN)),
        ((JOIN, READ), (JOIN, READ)),
    ],
)
def test_what_scopes_allow(scopes: tuple[Scope, ...], allowed: tuple[Scope, ...]) -> None:
    caller = Caller("app", scopes=frozenset(scopes))
    for scope in Scope:
        if scope in allowed:
            caller.require(scope)
            continue
        with pytest.raises(ForbiddenError) as caught:
            caller.require(scope)
        assert (caught.value.code, caught.value.extra) == ("scope-missing", {"scope": scope.value})
        assert said(scopes) in caught.value.detail


def test_rooms_by_the_names_of_each() -> None:
    assert PLAIN.room("r") == "r"
    assert ACME.room("r") == "acme:r"
    assert ROOT.room("r") == ROOT.room("default:r") == "r"
    assert ROOT.room("acme:r") == "acme:r"
    assert [who.shown(RoomId("acme:r")) for who in (ACME, ROOT)] == ["r", "acme:r"]
    assert [who.sees(RoomId("acme:r")) for who in (ACME, BETA, PLAIN, ROOT)] == [
        True, False, False, True,
    ]  # fmt: skip
    assert [who.sees(RoomId("r")) for who in (ACME, PLAIN, ROOT)] == [False, True, True]


@pytest.mark.parametrize("text", ["acme:r", "beta:r", "default:r"])
@pytest.mark.parametrize("caller", [ACME, PLAIN])
def test_a_room_with_a_tenant_does_not_exist_for_tenants(caller: Caller, text: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        caller.room(text)
    assert caught.value.code == "room-not-found"


@pytest.mark.parametrize("caller", [ACME, ROOT])
@pytest.mark.parametrize("text", ["", ":", "a:", ":a", "A:b", "a:b:c", "a b", "acme:..", "a/b"])
def test_what_is_no_room(caller: Caller, text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        caller.room(text)
    assert caught.value.code == "bad-room-id"


@given(TENANTS, IDS, TENANTS, IDS)
def test_tenants_never_share_a_room(one: str, room: str, other: str, its: str) -> None:
    callers = (Caller("a", one, frozenset({READ})), Caller("b", other, frozenset({READ})))
    mine, yours = callers[0].room(room), callers[1].room(its)
    assert (mine == yours) == ((one, room) == (other, its))
    assert (tenant_of(mine), callers[0].shown(mine)) == (one, room)
    assert callers[1].sees(mine) == (one == other)
    assert ROOT.room(mine) == mine == qualified(one, RoomId(room))


@pytest.mark.parametrize(
    ("tenant", "scopes", "granted"),
    [
        (None, None, ("default", {JOIN, READ, ADMIN})),
        ("acme", None, ("acme", {JOIN, READ})),
        ("default", None, ("default", {JOIN, READ})),
        ("default", ["admin"], ("default", {ADMIN})),
        (None, ["read"], ("default", {READ})),
        ("acme", ["join", "join"], ("acme", {JOIN})),
    ],
)
def test_grants(
    tenant: str | None, scopes: list[str] | None, granted: tuple[str, set[Scope]]
) -> None:
    assert parse_grant(tenant, scopes) == (granted[0], frozenset(granted[1]))


@pytest.mark.parametrize(
    ("tenant", "scopes", "code"),
    [
        ("", None, "bad-tenant"),
        ("Acme", None, "bad-tenant"),
        ("a:b", None, "bad-tenant"),
        ("a" * 64, None, "bad-tenant"),
        ("acme", [], "bad-scope"),
        ("acme", [""], "bad-scope"),
        ("acme", ["king"], "bad-scope"),
        ("acme", ["read", "admin"], "bad-scope"),
    ],
)
def test_what_is_not_granted(tenant: str | None, scopes: list[str] | None, code: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_grant(tenant, scopes)
    assert caught.value.code == code

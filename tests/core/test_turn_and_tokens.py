import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core import turn
from controlplane.core.model import (
    Location,
    ParticipantId,
    Region,
    RegionId,
    Role,
    RoomId,
    TurnServer,
)
from controlplane.core.session import TurnOrders
from controlplane.core.tokens import CLOCK_SKEW_S, TOKEN_TTL_S, audience, participant_claims
from tests.core.build import NOW, node, seat


def test_a_credential_is_what_coturn_computes() -> None:
    made = turn.turn_credential("s3cret", "ana", now=NOW + 0.7, ttl_s=600)
    assert made.username == f"{int(NOW) + 600}:ana"
    mac = hmac.new(b"s3cret", made.username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(made.credential) == mac


@pytest.mark.parametrize(("asked", "given"), [(10**9, turn.MAX_TTL_S), (0, 1), (-5, 1), (60, 60)])
def test_the_lifetime_is_capped(asked: int, given: int) -> None:
    assert turn.turn_credential("s", "u", now=NOW, ttl_s=asked).expires_at == int(NOW) + given


@pytest.mark.parametrize("user", ["", "evil%s%s", "a:b", "ä", "a" * 65, "a b", "a\n"])
def test_no_text_of_a_caller_gets_into_the_user_name(user: str) -> None:
    with pytest.raises(ValueError, match="TURN user id"):
        turn.turn_credential("s", user, now=NOW)


@given(st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128))
def test_every_participant_has_a_stable_user_id_that_is_allowed(room: str, who: str) -> None:
    try:
        user = turn.turn_user(RoomId(room), ParticipantId(who))
    except UnicodeEncodeError:
        return  # lone surrogates are no ids; core/ids.py refuses them long before
    assert user == turn.turn_user(RoomId(room), ParticipantId(who))
    assert turn.turn_credential("s", user, now=NOW).username.endswith(user)


def test_user_ids_differ_between_participants() -> None:
    assert turn.turn_user(RoomId("a"), ParticipantId("bc")) != turn.turn_user(
        RoomId("ab"), ParticipantId("c")
    )


def test_each_region_and_period_has_a_secret_of_its_own() -> None:
    made = {
        turn.region_secret(master, RegionId(region), number)
        for master in (b"master", b"other")
        for region in ("eu-a", "eu-b")
        for number in (1, 2)
    }
    assert len(made) == 8
    assert {len(bytes.fromhex(one)) for one in made} == {32}


def orders(masters: turn.TurnMasters, now: float) -> TurnOrders:
    region = Region(RegionId("eu-a"), "A", Location(50, 8), turn_servers=(TurnServer("turn.test"),))
    hosts = ["203.0.113.7", "2001:DB8:0::7", "203.0.113.7", "name.test"]
    return turn.turn_orders(masters, region, hosts, now)


def test_turn_relays_to_addresses_only() -> None:
    told = orders(turn.TurnMasters((b"m" * 32,), 0), NOW)
    assert told.peers == ("2001:db8::7", "203.0.113.7")
    assert (told.realm, told.servers) == ("eu-a", (TurnServer("turn.test"),))
    assert told.secrets[0].value not in repr(told), "logs show reprs"


@given(st.floats(0, 4 * turn.PERIOD_S), st.integers(1, turn.MAX_TTL_S))
def test_a_secret_is_known_before_it_signs_and_as_long_as_what_it_signed(
    into: float, ttl_s: int
) -> None:
    start = turn.PERIOD_S * 80_000
    masters = turn.TurnMasters((b"m" * 32,), 0)
    now = start + into
    secret = turn.signing_secret(masters, RegionId("eu-a"), now)
    made = turn.turn_credential(secret, "u", now=now, ttl_s=ttl_s)
    for when in (now - turn.LEAD_S, now, made.expires_at - 1):
        known = {one.value: one.not_after for one in orders(masters, when).secrets}
        assert known[secret] >= made.expires_at
        assert len(known) <= 3


def test_what_a_secret_signed_for_ever_ends_with_it() -> None:
    start = turn.PERIOD_S * 80_000
    masters = turn.TurnMasters((b"m" * 32,), 0)
    secret = turn.signing_secret(masters, RegionId("eu-a"), start)
    known = [
        hour
        for hour in range(-24, 48)
        if any(one.value == secret for one in orders(masters, start + hour * 3600).secrets)
    ]
    assert (min(known), max(known)) == (0, 11), "LEAD_S before, and no longer than 12 hours"


def test_a_new_master_is_known_before_it_signs() -> None:
    region = RegionId("eu-a")
    old, new = b"o" * 32, b"n" * 32
    before = turn.TurnMasters((old,), NOW - 86_400)
    rotated = turn.TurnMasters((new, old), NOW)
    by_old, by_new = (turn.region_secret(one, region, turn.period(NOW)) for one in (old, new))
    assert turn.signing_secret(before, region, NOW) == by_old
    assert turn.signing_secret(rotated, region, NOW) == by_old
    assert {by_old, by_new} <= {one.value for one in orders(rotated, NOW).secrets}
    later = NOW + turn.LEAD_S
    assert turn.signing_secret(rotated, region, later) == turn.region_secret(
        new, region, turn.period(later)
    )


def test_a_master_that_stands_alone_signs_at_once() -> None:
    """An operator who replaces a stolen one wants nothing of the old one any more."""
    alone = turn.TurnMasters((b"n" * 32,), NOW)
    secret = turn.signing_secret(alone, RegionId("eu-a"), NOW)
    assert secret in {one.value for one in orders(alone, NOW).secrets}


def test_urls_are_in_the_order_of_what_they_cost_media() -> None:
    servers = [TurnServer("turn.test"), TurnServer("2001:db8::1", 3479, 5349)]
    assert turn.turn_urls(servers, ["tls", "udp"]) == (
        "turn:turn.test:3478?transport=udp",
        "turn:[2001:db8::1]:3479?transport=udp",
        "turns:turn.test:443?transport=tcp",
        "turns:[2001:db8::1]:5349?transport=tcp",
    )
    assert turn.turn_urls(servers[:1], ["tcp"]) == ("turn:turn.test:3478?transport=tcp",)
    assert turn.turn_urls([], ["udp"]) == ()


def test_a_token_says_who_where_and_for_how_long() -> None:
    assignment = seat("ana", node("fra-1", "eu-frankfurt"), role=Role.VIEWER)
    assert participant_claims(assignment, audience(assignment), id_="t1", now=NOW + 0.9) == {
        "iss": "thalweg",
        "jti": "t1",
        "aud": ["fra-1"],
        "sub": "ana",
        "room": "standup",
        "epoch": 1,
        "role": "viewer",
        "iat": int(NOW),
        "nbf": int(NOW) - CLOCK_SKEW_S,
        "exp": int(NOW) + TOKEN_TTL_S,
    }

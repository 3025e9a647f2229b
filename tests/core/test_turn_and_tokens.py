import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core import turn
from controlplane.core.model import ParticipantId, RegionId, Role, RoomId, TurnServer
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


def test_each_region_has_a_secret_of_its_own() -> None:
    a, b = (turn.region_secret(b"master", RegionId(id_)) for id_ in ("eu-a", "eu-b"))
    assert a != b
    assert len(bytes.fromhex(a)) == 32
    assert a != turn.region_secret(b"other", RegionId("eu-a"))


def test_urls_are_in_the_order_of_what_they_cost_media() -> None:
    servers = [TurnServer("turn.test"), TurnServer("2001:db8::1", 3479, 443)]
    assert turn.turn_urls(servers, ["tls", "udp"]) == (
        "turn:turn.test:3478?transport=udp",
        "turn:[2001:db8::1]:3479?transport=udp",
        "turns:turn.test:5349?transport=tcp",
        "turns:[2001:db8::1]:443?transport=tcp",
    )
    assert turn.turn_urls(servers[:1], ["tcp"]) == ("turn:turn.test:3478?transport=tcp",)
    assert turn.turn_urls([], ["udp"]) == ()


def test_a_token_says_who_where_and_for_how_long() -> None:
    assignment = seat("ana", node("fra-1", "eu-frankfurt"), role=Role.VIEWER)
    assert participant_claims(assignment, audience(assignment), now=NOW + 0.9) == {
        "iss": "thalweg",
        "aud": ["fra-1"],
        "sub": "ana",
        "room": "standup",
        "epoch": 1,
        "role": "viewer",
        "iat": int(NOW),
        "nbf": int(NOW) - CLOCK_SKEW_S,
        "exp": int(NOW) + TOKEN_TTL_S,
    }

"""What a join token is good for."""

import pytest

from controlplane.core.enrolment import (
    REPEAT_S,
    Grant,
    JoinToken,
    SigningRequest,
    enrolment_refusal,
    host_refusal,
    parse_join_token,
)
from controlplane.core.model import NodeId, RegionId

NOW = 1_000_000.0
REGION, NODE = RegionId("eu-frankfurt"), NodeId("fra1")
TOKEN = JoinToken("0123456789ab", "s" * 43, "p" * 43)


def grant(**changes: object) -> Grant:
    members: dict[str, object] = {
        "region": REGION,
        "node": None,
        "names": (),
        "expires_at": NOW + 60,
    }
    return Grant(**(members | changes))  # type: ignore[arg-type]


def refusal(
    given: Grant,
    *names: str,
    region: RegionId = REGION,
    node: NodeId = NODE,
    key: str = "k",
    address: str | None = "192.0.2.7",
) -> str | None:
    found = enrolment_refusal(
        given, region, node, SigningRequest(b"", names, ()), key=key, address=address
    )
    return None if found is None else found.code


def test_a_token_survives_being_written_and_hides_its_secret() -> None:
    assert parse_join_token(f" {TOKEN}\n") == TOKEN
    assert TOKEN.secret not in repr(TOKEN)


@pytest.mark.parametrize(
    "text", ["", "twjoin", "twjoin.a.b.c", f"{TOKEN}x", f"x{TOKEN}", str(TOKEN).replace(".", ":")]
)
def test_other_texts_are_no_tokens(text: str) -> None:
    assert parse_join_token(text) is None


def test_a_grant_survives_the_store() -> None:
    given = grant(node=NODE, names=("a.test", "::1"), used_by="k", used_for="fra1")
    assert Grant.loads(given.dumps()) == given


def test_region_and_node_are_the_tokens() -> None:
    assert refusal(grant()) is None
    assert refusal(grant(), region=RegionId("us-virginia")) == "join-token-region"
    assert refusal(grant(node=NODE)) is None
    assert refusal(grant(node=NODE), node=NodeId("fra2")) == "join-token-node"
    assert refusal(grant(), node=NodeId("A/b")) == "bad-node-id"


def test_names_are_the_operators_word_or_the_callers_address() -> None:
    given = grant(names=("fra1.example.net", "2001:db8::1"))
    assert (
        refusal(given, "fra1.example.net", "FRA1.EXAMPLE.NET", "2001:DB8:0::1", "192.0.2.7") is None
    )
    assert refusal(given, "control.example.net") == "name-not-allowed"
    assert refusal(given, "*.example.net") == "name-not-allowed"
    assert refusal(given, "192.0.2.8") == "name-not-allowed"
    assert refusal(given, "192.0.2.7", address=None) == "name-not-allowed"
    assert refusal(given, "::ffff:192.0.2.7") is None


def test_a_used_token_answers_the_same_key_for_a_while_and_no_other() -> None:
    used = grant(expires_at=NOW + 3600).used("k", NODE, now=NOW)
    assert used.expires_at == NOW + REPEAT_S
    assert refusal(used) is None
    assert refusal(used, key="another") == "join-token-used"
    assert refusal(used, node=NodeId("fra2")) == "join-token-used"
    assert used.used("k", NODE, now=NOW + 100) == used


@pytest.mark.parametrize(
    "name", ["a", "a.test", "1.2.3.4", "::1", "xn--nxasmq6b.test", "a-b.c", "A.test"]
)
def test_names_that_may_be_called(name: str) -> None:
    assert host_refusal(name) is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "a..b", "-a", "a-", "a_b", "a b", "*.a", "a.test.", "x" * 64, "a." * 127 + "a", "é"],
)
def test_names_that_nobody_calls(name: str) -> None:
    assert host_refusal(name) is not None

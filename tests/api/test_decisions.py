"""Why somebody sits where they sit, and where somebody would go."""

import pytest

from tests.api.fake_relay import relays
from tests.api.harness import Api

PROBES = [
    {"region": "eu-frankfurt", "rtt_ms": [5.0, 6.0]},
    {"region": "us-virginia", "rtt_ms": [92.0]},
    {"region": "ap-singapore", "rtt_ms": [170.0]},
]
EVERYWHERE = ("eu-frankfurt", "us-virginia", "ap-singapore")


async def test_a_seat_is_told_as_a_person_would(api: Api) -> None:
    async with relays(api, *EVERYWHERE):
        await api.join("r", "ana", probes=PROBES)
        await api.join("r", "bob", probes=PROBES, role="viewer")
        answer = (await api.call("GET", "/v1/rooms/r/participants/ana/decision")).json
    assert (answer["room"], answer["participant"], answer["role"]) == ("r", "ana", "publisher")
    assert (answer["node"], answer["refusal"]) == ("eu-frankfurt-1", None)
    assert answer["told"][0] == "ana sits on eu-frankfurt-1 in Frankfurt."
    assert answer["because"][0] == "Frankfurt answers in 5 ms (probe)"
    assert [one["region"] for one in answer["candidates"]] == [*EVERYWHERE]
    assert answer["others"] == 0, "when it was decided"
    assert answer["company"] == [{"region": "eu-frankfurt", "participants": 1}]


async def test_a_preview_decides_as_a_join_and_admits_nobody(api: Api) -> None:
    async with relays(api, *EVERYWHERE):
        await api.join("r", "ana", probes=PROBES)
        before = (await api.call("GET", "/v1/rooms/r")).json["participants"]
        body = {"room": "r", "role": "viewer", "probes": PROBES, "client_ip": "192.0.2.1"}
        answer = (await api.call("POST", "/v1/decisions", body)).json
        joined = (await api.join("r", "bob", probes=PROBES, role="viewer")).json
        after = [one["participant"] for one in before]
        (await api.call("GET", "/v1/rooms/r/participants/preview")).problem(
            404, "participant-not-found"
        )
    assert after == ["ana"]
    assert answer["node"] == joined["node"]["id"] == "eu-frankfurt-1"
    assert answer["because"] == joined["decision"]["because"]
    assert answer["told"][0] == "This client would go to eu-frankfurt-1 in Frankfurt."
    assert (answer["room"], answer["participant"], answer["role"]) == ("r", None, "viewer")
    assert answer["others"] == 1


async def test_a_preview_without_a_room_is_the_first_in_one(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        answer = (await api.call("POST", "/v1/decisions", {})).json
    assert (answer["room"], answer["node"], answer["others"]) == (None, "eu-frankfurt-1", 0)
    assert answer["told"][-1] == "Nobody else is in the room."


async def test_a_refusal_is_an_answer(api: Api) -> None:
    nobody = (await api.call("POST", "/v1/decisions", {"room": "r"})).json
    assert nobody["refusal"] == "no_nodes"
    async with relays(api, "eu-frankfurt"):
        answer = (
            await api.call("POST", "/v1/decisions", {"require": {"residency": ["mars"]}})
        ).json
    assert (answer["node"], answer["region"], answer["refusal"]) == (None, None, "residency")
    assert answer["told"][0] == "Nobody can take this client now."
    assert answer["candidates"][0]["refusal"] == "residency: eu-frankfurt does not carry mars"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"client_ip": "nonsense"}, "body-invalid"),
        ({"room": "a/b"}, "body-invalid"),
        ({"session": "s"}, "body-invalid"),
        ({"require": {"regions": ["mars"]}}, "unknown-region"),
    ],
)
async def test_bad_questions_are_refused(api: Api, body: object, code: str) -> None:
    (await api.call("POST", "/v1/decisions", body)).problem(400, code)
    (await api.call("POST", "/v1/decisions", body, key=None)).problem(401, "api-key-missing")

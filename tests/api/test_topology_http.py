"""/v1/topology: compare-and-set by ETag."""

import pytest

from tests.api.fake_relay import relays
from tests.api.harness import DEMO, Api

YAML = {"Content-Type": "application/yaml"}
ONE = "version: 1\nregions:\n  us-virginia: {location: {lat: 1, lon: 2}}\n"


async def test_it_comes_as_it_was_written(api: Api) -> None:
    shown = await api.call("GET", "/v1/topology")
    assert (shown.text, shown.headers["ETag"]) == (DEMO, '"1"')
    assert shown.headers["Content-Type"].startswith("application/yaml")


async def test_the_newest_version_can_be_replaced_once(api: Api) -> None:
    replaced = await api.call("PUT", "/v1/topology", data=ONE, headers=YAML | {"If-Match": '"1"'})
    assert (replaced.status, replaced.headers["ETag"]) == (200, '"2"')
    assert replaced.json == {"version": 2, "regions": ["us-virginia"]}
    stale = await api.call("PUT", "/v1/topology", data=ONE, headers=YAML | {"If-Match": '"1"'})
    stale.problem(412, "topology-stale")
    assert (await api.call("GET", "/v1/topology")).text == ONE


@pytest.mark.parametrize(
    ("if_match", "status", "code"),
    [
        (None, 428, "if-match-missing"),
        ("*", 400, "if-match-invalid"),
        ("1", 400, "if-match-invalid"),
        ('W/"1"', 400, "if-match-invalid"),
        ('"1", "2"', 400, "if-match-invalid"),
    ],
)
async def test_it_is_never_replaced_blindly(
    api: Api, if_match: str | None, status: int, code: str
) -> None:
    headers = YAML | ({} if if_match is None else {"If-Match": if_match})
    (await api.call("PUT", "/v1/topology", data=ONE, headers=headers)).problem(status, code)
    assert (await api.call("GET", "/v1/topology")).headers["ETag"] == '"1"'


async def test_a_bad_one_is_refused_with_every_place(api: Api) -> None:
    bad = "version: 1\nregions:\n  a: {location: {lat: 91, lon: 2}, titel: x}\n"
    refused = await api.call("PUT", "/v1/topology", data=bad, headers=YAML | {"If-Match": '"1"'})
    errors = refused.problem(400, "topology-invalid")["errors"]
    assert [(one["loc"], one["code"]) for one in errors] == [
        (["topology.yaml", 3, 23], "TOPO007"),
        (["topology.yaml", 3, 36], "TOPO004"),
    ]
    latin = await api.call("PUT", "/v1/topology", data=b"\xff", headers=YAML)
    latin.problem(400, "yaml-malformed")


async def test_a_dry_run_says_who_would_move_and_changes_nothing(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        await api.join("r", "ana")
        diff = (await api.call("PUT", "/v1/topology?dry_run=true", data=ONE, headers=YAML)).json
    assert diff["removed"] == ["ap-singapore", "eu-frankfurt"]
    assert diff["changed"] == ["us-virginia"]
    assert diff["would_move"] == [{"room": "r", "participant": "ana", "region": "eu-frankfurt"}]
    assert (await api.call("GET", "/v1/topology")).headers["ETag"] == '"1"'

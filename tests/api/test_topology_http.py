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
        ('"1" "2"', 400, "if-match-invalid"),
        ('W/"1"', 412, "topology-stale"),
        ('"0", "2"', 412, "topology-stale"),
        ('"01"', 412, "topology-stale"),
        ('"theirs"', 412, "topology-stale"),
        ('"1-gzip"', 412, "topology-stale"),
    ],
)
async def test_it_is_never_replaced_blindly(
    api: Api, if_match: str | None, status: int, code: str
) -> None:
    headers = YAML | ({} if if_match is None else {"If-Match": if_match})
    (await api.call("PUT", "/v1/topology", data=ONE, headers=headers)).problem(status, code)
    assert (await api.call("GET", "/v1/topology")).headers["ETag"] == '"1"'


async def test_one_matching_tag_of_a_list_is_enough(api: Api) -> None:
    headers = YAML | {"If-Match": 'W/"1", "theirs" , "1"'}
    assert (await api.call("PUT", "/v1/topology", data=ONE, headers=headers)).json["version"] == 2
    refused = await api.call("PUT", "/v1/topology", data=ONE, headers=headers)
    assert refused.problem(412, "topology-stale")["version"] == 2


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
    assert (diff["would_move_total"], diff["version"]) == (1, 1)
    kinds = [(one["kind"], one["section"], one["name"]) for one in diff["changes"]]
    assert ("-", "region", "eu-frankfurt") in kinds
    assert ("~", "region", "us-virginia") in kinds
    plan = diff["plan"]
    (move,) = plan["moves"]
    assert (move["from_region"], move["to_region"]) == ("eu-frankfurt", "us-virginia")
    assert move["to_node"] == "us-virginia-planned-1", "no node is there yet"
    assert (plan["moves_total"], plan["forced_total"], plan["stranded_total"]) == (1, 1, 0)
    assert (plan["rooms_examined"], plan["rooms_total"], plan["people_examined"]) == (1, 1, 1)
    (left,) = plan["capacity"]
    assert (left["region"], left["planned"], left["left_if_lost"]) == ("us-virginia", True, -1)
    assert (await api.call("GET", "/v1/topology")).headers["ETag"] == '"1"'

import json
from typing import Any

import pytest

from tests.e2e.harness import Up, thalweg

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
REGIONS = {"eu-frankfurt", "us-virginia", "ap-singapore"}


def check_everybody_decoded_everybody_through_one_trunk_hop(result: dict[str, Any]) -> None:
    assert set(result) == {"ok", "participants", "links", "failover"}
    assert result["ok"] is True
    people = {one["id"]: one for one in result["participants"]}
    assert len(people) == 3
    assert {one["place"] for one in people.values()} == REGIONS
    assert {one["region"] for one in people.values()} == REGIONS
    for one in people.values():
        assert set(one) == {"id", "place", "region", "node", "decision", "received"}
        assert one["region"] == one["place"]
        assert one["decision"]["because"]
        assert set(one["received"]) == set(people) - {one["id"]}
        for received in one["received"].values():
            assert received["video_frames"] > 0
            assert received["audio_frames"] > 0
            assert received["trunk_hops"] == 1


def check_links(result: dict[str, Any]) -> None:
    nodes = {one["node"] for one in result["participants"]}
    pairs = {(link["from"], link["to"]) for link in result["links"]}
    assert pairs == {(one, two) for one in nodes for two in nodes if one != two}
    for link in result["links"]:
        assert set(link) == {"from", "to", "tracks", "packets", "repaired"}
        assert len(link["tracks"]) == 2
        assert link["packets"] > 0


def test_three_regions_see_and_hear_each_other_through_one_trunk_hop() -> None:
    done = thalweg("demo", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    check_everybody_decoded_everybody_through_one_trunk_hop(result)
    check_links(result)
    assert result["failover"] is None


def test_a_killed_node_is_replaced_within_five_seconds() -> None:
    done = thalweg("demo", "--json", "--kill-node", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    check_everybody_decoded_everybody_through_one_trunk_hop(result)
    failover = result["failover"]
    assert set(failover) == {
        "killed_node",
        "participant",
        "from",
        "to",
        "seconds_until_all_decode",
    }
    nodes = {one["id"]: one["node"] for one in result["participants"]}
    assert failover["from"] == failover["killed_node"] == nodes[failover["participant"]]
    assert failover["to"] in set(nodes.values()) - {failover["from"]}
    assert 0 < failover["seconds_until_all_decode"] <= 5


def test_it_runs_against_a_system_that_runs_already(system: Up) -> None:
    to = ("--url", system.facts["http_url"], "--api-key", system.facts["api_key"])
    done = thalweg("demo", *to, "--seconds", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    for heading in ("Decisions", "Frames decoded", "Links"):
        assert heading in done.stdout
    status, rooms = system.call("GET", "/v1/rooms")
    assert status == 200
    assert rooms["rooms"] == [], "everybody leaves at the end"


def test_it_does_not_kill_the_processes_of_others(system: Up) -> None:
    to = ("--url", system.facts["http_url"], "--api-key", system.facts["api_key"])
    done = thalweg("demo", *to, "--kill-node")
    assert done.returncode == 2
    assert "--kill-node" in done.stderr


def test_a_wrong_key_is_named(system: Up) -> None:
    done = thalweg("demo", "--url", system.facts["http_url"], "--api-key", "wrong")
    assert done.returncode == 2
    assert "401" in done.stderr


def test_a_key_is_needed(system: Up) -> None:
    done = thalweg("demo", "--url", system.facts["http_url"])
    assert done.returncode == 2
    assert "--api-key" in done.stderr

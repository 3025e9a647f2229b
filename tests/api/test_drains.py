"""Drains over HTTP, and the audit of what operators change."""

import pytest
from structlog.testing import capture_logs

from tests.api.fake_relay import relays
from tests.api.harness import DEMO, Api

DRAIN = "/v1/nodes/eu-frankfurt-1/drain"
YAML = {"Content-Type": "application/yaml"}


async def test_a_drain_shows_what_was_asked_for_until_it_is_undone(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        body = {"deadline_s": 600, "pace": 5, "reason": "new kernel"}
        drained = (await api.call("PUT", DRAIN, body)).json
        assert drained["state"] == "draining"
        drain = drained["drain"]
        assert (drain["reason"], drain["pace"], drain["done"]) == ("new kernel", 5, False)
        assert 590 < drain["deadline_in_s"] <= 600
        undone = (await api.call("DELETE", DRAIN)).json
        assert (undone["state"], undone["drain"]) == ("serving", None)


async def test_a_dry_run_says_who_would_go_where_and_changes_nothing(api: Api) -> None:
    async with relays(api, "eu-frankfurt", "us-virginia"):
        for who, region in (
            ("ana", "eu-frankfurt"),
            ("bob", "eu-frankfurt"),
            ("eve", "us-virginia"),
        ):
            await api.join("r", who, probes=[{"region": region, "rtt_ms": [4.0]}])
        plan = (await api.call("PUT", DRAIN + "?dry_run=true", {})).json
        assert [(one["participant"], one["to_node"]) for one in plan["moves"]] == [
            ("ana", "us-virginia-1"),
            ("bob", "us-virginia-1"),
        ]
        assert (plan["node"], plan["moves_total"], plan["stranded_total"]) == (
            "eu-frankfurt-1",
            2,
            0,
        )
        shown = (await api.call("GET", "/v1/nodes/eu-frankfurt-1")).json
        assert (shown["state"], shown["drain"]) == ("serving", None)


async def test_a_dry_run_says_for_whom_there_is_no_place(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        await api.join("r", "ana")
        plan = (await api.call("PUT", DRAIN + "?dry_run=true", {})).json
    assert plan["stranded_total"] == 1
    assert plan["moves"][0]["to_node"] is None
    assert "draining" in plan["moves"][0]["because"]


@pytest.mark.parametrize("pace", [0, -1, 1e6, "5"])
async def test_a_pace_is_checked(api: Api, pace: object) -> None:
    (await api.call("PUT", DRAIN, {"pace": pace})).problem(400, "body-invalid")


async def test_an_unknown_node_is_said_in_a_dry_run_too(api: Api) -> None:
    (await api.call("PUT", "/v1/nodes/never/drain?dry_run=true", {})).problem(404, "node-not-found")


async def test_what_operators_change_is_logged_with_who_and_what_came_of_it(api: Api) -> None:
    async with relays(api, "eu-frankfurt"):
        with capture_logs() as logs:
            await api.call("PUT", DRAIN, {"reason": "new kernel"})
            await api.call("DELETE", DRAIN)
            await api.call("PUT", "/v1/nodes/never/drain", {})
            for tag in ('"1"', '"1"'):
                headers = YAML | {"If-Match": tag}
                await api.call("PUT", "/v1/topology", data=DEMO + "\n", headers=headers)
            await api.call("PUT", "/v1/topology?dry_run=true", data=DEMO, headers=YAML)
    audits = [one for one in logs if one["event"] == "audit"]
    assert [(one["action"], one["by"], one["result"]) for one in audits] == [
        ("node.drain", "tests", "done"),
        ("node.undrain", "tests", "done"),
        ("node.drain", "tests", "node-not-found"),
        ("topology.replace", "tests", "done"),
        ("topology.replace", "tests", "topology-stale"),
    ]
    assert (audits[0]["node"], audits[0]["reason"]) == ("eu-frankfurt-1", "new kernel")
    assert (audits[3]["replaced"], audits[3]["version"]) == (1, 2)

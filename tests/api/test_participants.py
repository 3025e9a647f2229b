"""The journey of a signalling server over HTTP."""

import asyncio
import ipaddress
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from controlplane.adapters.turn_secrets import TurnSecretFile
from tests.api.fake_relay import relays
from tests.api.harness import Api, running, settings

REGIONS = ("ap-singapore", "eu-frankfurt", "us-virginia")
NEAR_FRANKFURT = [
    {"region": "eu-frankfurt", "rtt_ms": [9.0, 8.0]},
    {"region": "us-virginia", "rtt_ms": [95]},
]


async def test_a_join_is_answered_again_word_for_word(tls_dir: Path) -> None:
    wanted = settings(tls_dir)
    async with running(wanted) as api, relays(api, *REGIONS):
        first = await api.join("r", "ana", probes=NEAR_FRANKFURT)
        assert first.status == 201
        answer = first.json
        assert answer["node"] == {
            "id": "eu-frankfurt-1",
            "region": "eu-frankfurt",
            "whip_url": "http://eu-frankfurt-1.example.net/whip/r/ana",
            "whep_url": "http://eu-frankfurt-1.example.net/whep/r/ana",
        }
        assert answer["ice_servers"] == []
        assert answer["decision"]["rtt_source"] == "probe"
        assert answer["decision"]["because"]
        assert len(answer["fallbacks"]) == 2

        kid, key = next(iter(wanted.signer.public_keys().items()))
        assert jwt.get_unverified_header(answer["token"])["kid"] == kid
        claims = jwt.decode(
            answer["token"],
            Ed25519PublicKey.from_public_bytes(key),
            algorithms=["EdDSA"],
            audience="eu-frankfurt-1",
        )
        assert (claims["sub"], claims["room"], claims["epoch"]) == ("ana", "r", answer["epoch"])
        assert set(claims["aud"]) == {f"{region}-1" for region in REGIONS}

        again = await api.join("r", "ana", probes=NEAR_FRANKFURT)
        assert again.status == 200
        assert (again.json["epoch"], again.json["node"]) == (answer["epoch"], answer["node"])

        other = await api.join("r", "ana", session="another-tab", probes=NEAR_FRANKFURT)
        assert other.status == 201
        assert other.json["epoch"] > answer["epoch"]


async def test_look_explain_and_leave(api: Api) -> None:
    async with relays(api, *REGIONS):
        await api.join("r", "ana", probes=NEAR_FRANKFURT)
        path = "/v1/rooms/r/participants/ana"
        seat = (await api.call("GET", path)).json
        assert "token" not in seat
        assert "ice_servers" not in seat
        assert (seat["live"], seat["tracks"], seat["node"]["region"]) == (False, [], "eu-frankfurt")

        decision = (await api.call("GET", f"{path}/decision")).json
        assert decision["node"] == "eu-frankfurt-1"
        assert {one["region"] for one in decision["candidates"]} == set(REGIONS)
        assert decision["candidates"][0]["rtt_ms"] == pytest.approx(8.0, abs=1)

        assert (await api.call("DELETE", path)).status == 204
        (await api.call("DELETE", path)).problem(404, "participant-not-found")
        (await api.call("GET", path)).problem(404, "participant-not-found")
        (await api.call("GET", f"{path}/decision")).problem(404, "participant-not-found")


async def test_rooms_show_who_sits_where_and_the_links_between(api: Api) -> None:
    async with relays(api, *REGIONS):
        for place in REGIONS:
            probes = [
                {"region": region, "rtt_ms": [5.0 if region == place else 300.0]}
                for region in REGIONS
            ]
            await api.join("r", f"in-{place}", probes=probes)
        room = (await api.call("GET", "/v1/rooms/r")).json
        assert [one["region"] for one in room["participants"]] == list(REGIONS)
        ends = {(link["from_region"], link["to_region"]) for link in room["cascade"]["links"]}
        assert ends == {(a, b) for a in REGIONS for b in REGIONS if a != b}
        assert room["delay"]["mean_ms"] > 0

        await api.join("s", "bo")
        listed = (await api.call("GET", "/v1/rooms?limit=1")).json
        assert (listed["rooms"][0]["id"], listed["rooms"][0]["participants"], listed["next"]) == (
            "r",
            3,
            "r",
        )
        rest = (await api.call("GET", "/v1/rooms?limit=1&after=r")).json
        assert [room["id"] for room in rest["rooms"]] == ["s"]

    empty = (await api.call("GET", "/v1/rooms/nobody")).json
    assert empty == {
        "id": "nobody",
        "participants": [],
        "cascade": {"links": []},
        "delay": {"mean_ms": None, "worst_ms": None},
    }


async def test_a_residency_that_no_region_has_is_451(api: Api) -> None:
    async with relays(api, *REGIONS):
        refused = await api.join("r", "ana", require={"residency": ["mars"]})
        refused.problem(451, "residency-unsatisfied")
        assert (await api.call("GET", "/v1/rooms/r")).json["participants"] == []


async def test_no_node_is_503_with_retry_after(api: Api) -> None:
    refused = await api.join("r", "ana")
    refused.problem(503, "no-nodes")
    assert int(refused.headers["Retry-After"]) > 0


async def test_turn_servers_come_with_credentials(tls_dir: Path, tmp_path: Path) -> None:
    topology = """
version: 1
regions:
  eu-a:
    location: {lat: 50, lon: 8}
    turn: {servers: [{host: turn.example.net}], transports: [udp, tls]}
"""
    (tmp_path / "turn").write_text("a-secret-for-the-tests")
    turn = await asyncio.to_thread(TurnSecretFile, tmp_path / "turn")
    wanted = settings(tls_dir, topology_text=topology, turn=turn)
    async with running(wanted) as api, relays(api, "eu-a"):
        servers = (await api.join("r", "ana")).json["ice_servers"]
        given = [server for server in servers if "username" in server]
        assert given
        assert given[0]["credential"]
        assert any(url.startswith("turns:turn.example.net:443") for url in given[0]["urls"])


async def test_a_probe_plan_names_what_to_measure(api: Api) -> None:
    async with relays(api, *REGIONS):
        plan = (await api.call("POST", "/v1/probe-plans", {})).json
        assert {target["region"] for target in plan["regions"]} == set(REGIONS)
        first = plan["regions"][0]
        assert first["url"].endswith(".example.net/probe")
        assert first["stun"] == "stun:192.0.2.1:5000"
        assert plan["location_source"] == "unknown"
        assert (plan["more"], plan["more_above_ms"]) == ([], None)


async def test_a_probe_plan_may_be_for_a_room(api: Api) -> None:
    async with relays(api, *REGIONS):
        assert (await api.call("POST", "/v1/probe-plans", {"room": "r"})).status == 200
        refused = await api.call("POST", "/v1/probe-plans", {"room": "no room"})
        refused.problem(400, "body-invalid")


async def test_a_node_can_be_drained_and_undrained(api: Api) -> None:
    async with relays(api, "eu-frankfurt", "us-virginia"):
        path = "/v1/nodes/eu-frankfurt-1"
        drained = await api.call("PUT", f"{path}/drain", {"deadline_s": 60, "reason": "kernel"})
        assert (drained.status, drained.json["state"]) == (200, "draining")
        joined = (await api.join("r", "ana", probes=NEAR_FRANKFURT)).json
        assert joined["node"]["id"] == "us-virginia-1"
        assert (await api.call("DELETE", f"{path}/drain")).json["state"] == "serving"
        assert (await api.call("GET", path)).json["state"] == "serving"
    (await api.call("GET", "/v1/nodes/nobody")).problem(404, "node-not-found")
    (await api.call("PUT", "/v1/nodes/nobody/drain", {})).problem(404, "node-not-found")


@pytest.mark.parametrize(
    ("client_ip", "forwarded", "expected"),
    [
        ("10.20.1.1", None, "us-virginia"),
        (None, "10.20.1.1", "us-virginia"),
        (None, "10.20.1.1, 203.0.113.9", "unknown"),
    ],
)
async def test_the_client_address_comes_from_the_body_or_a_trusted_proxy(
    tls_dir: Path, client_ip: str | None, forwarded: str | None, expected: str
) -> None:
    topology = (
        settings(tls_dir).topology_text
        + "\noverrides: [{cidr: 10.20.0.0/16, region: us-virginia}]\n"
    )
    trusted = (ipaddress.ip_network("127.0.0.0/8"),)
    wanted = settings(tls_dir, topology_text=topology, trusted_proxies=trusted)
    async with running(wanted) as api, relays(api, *REGIONS):
        body = {"session": "s"} | ({"client_ip": client_ip} if client_ip else {})
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        joined = await api.call("PUT", "/v1/rooms/r/participants/ana", body, headers=headers)
        source = joined.json["decision"]["rtt_source"]
        assert source == ("unknown" if expected == "unknown" else "override")
        if expected != "unknown":
            assert joined.json["node"]["region"] == expected

"""The operator's commands, each as a process against a real control plane with nodes and people."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.api.fake_relay import relays
from tests.api.harness import DEMO, KEY, Api
from tests.cli.asking import ENVIRONMENT, thalweg
from tests.fakes.waiting import eventually

EVERYWHERE = ("eu-frankfurt", "us-virginia", "ap-singapore")
NEAR_FRANKFURT = [
    {"region": "eu-frankfurt", "rtt_ms": [5.0]},
    {"region": "us-virginia", "rtt_ms": [92.0]},
    {"region": "ap-singapore", "rtt_ms": [165.0]},
]
WITHOUT_FRANKFURT = """\
version: 1
regions:
  us-virginia: {title: Virginia, location: {lat: 38.95, lon: -77.45}, residency: [us]}
  ap-singapore: {title: Singapore, location: {lat: 1.35, lon: 103.82}, residency: [sg]}
links:
  - {between: [us-virginia, ap-singapore], rtt_ms: 224}
"""


@pytest.fixture
def smaller(tmp_path: Path) -> str:
    path = tmp_path / "smaller.yaml"
    path.write_text(WITHOUT_FRANKFURT)
    return str(path)


@pytest.fixture
def same(tmp_path: Path) -> str:
    path = tmp_path / "same.yaml"
    path.write_text(DEMO)
    return str(path)


async def two_people(api: Api) -> None:
    await api.join("standup", "ana", probes=NEAR_FRANKFURT)
    await api.join("standup", "bob", probes=NEAR_FRANKFURT)


# --- nodes and rooms ------------------------------------------------------------------------------


async def test_nodes_are_listed_shown_drained_and_undrained(api: Api) -> None:
    async with relays(api, *EVERYWHERE):
        await two_people(api)
        listed = await thalweg(api, "node", "list")
        assert listed.code == 0, listed.err
        heads, *rows = listed.out.splitlines()
        assert heads.split() == [
            "NODE",
            "REGION",
            "STATE",
            "PEOPLE",
            "PLACES",
            "LOAD",
            "HEARD",
            "WHY",
        ]
        assert [row.split()[0] for row in rows] == [f"{region}-1" for region in sorted(EVERYWHERE)]

        tried = await thalweg(api, "node", "drain", "eu-frankfurt-1", "--dry-run")
        assert "Everybody has a place: 2 of 2. Nothing was changed." in tried.out
        plan = (
            await thalweg(api, "node", "drain", "eu-frankfurt-1", "--dry-run", "-o", "json")
        ).json
        assert {one["to_node"] for one in plan["moves"]} == {"us-virginia-1"}

        drain = ("node", "drain", "eu-frankfurt-1", "--deadline", "1h30m", "--pace", "0.1")
        drained = await thalweg(api, *drain, "--reason", "new [kernel]")
        assert drained.code == 0, drained.err
        assert "eu-frankfurt-1 is draining and takes nobody new." in drained.out
        assert "everybody left is moved in 1h30m; until then 0.1 people a second" in drained.out
        shown = (await thalweg(api, "node", "show", "eu-frankfurt-1", "-o", "json")).json
        assert (shown["state"], shown["why"]) == ("draining", "new [kernel]")
        assert shown["drain"]["pace"] == 0.1
        told = await thalweg(api, "node", "show", "eu-frankfurt-1")
        assert "draining (new [kernel])" in told.out

        undone = await thalweg(api, "node", "undrain", "eu-frankfurt-1")
        assert undone.out == "eu-frankfurt-1 is serving.\n"


async def test_rooms_are_listed_and_shown(api: Api) -> None:
    async with relays(api, *EVERYWHERE):
        assert (await thalweg(api, "room", "list")).out == "No room has anybody.\n"
        await two_people(api)
        await api.join("zoo", "cem", probes=NEAR_FRANKFURT)
        listed = await thalweg(api, "room", "list", "--limit", "1")
        assert listed.out.splitlines()[1].split() == ["standup", "2", "eu-frankfurt-1"]
        assert "thalweg room list --after standup" in listed.out
        shown = await thalweg(api, "room", "show", "standup")
        assert "ana" in shown.out
        assert "not connected yet" in shown.out
        assert "Delay between two people, one way, as estimated: " in shown.out
        assert (await thalweg(api, "room", "show", "standup", "-o", "yaml")).out.startswith(
            "id: standup\n"
        )
        empty = await thalweg(api, "room", "show", "empty")
        assert (empty.code, empty.out) == (0, "Nobody is in room empty.\n")


# --- explain --------------------------------------------------------------------------------------


async def test_a_decision_is_told_and_tabled(api: Api) -> None:
    async with relays(api, *EVERYWHERE):
        await two_people(api)
        told = await thalweg(api, "explain", "standup", "ana")
        assert told.code == 0, told.err
        sentences, table = told.out.split("\n\n")
        assert sentences.splitlines()[0] == "ana sits on eu-frankfurt-1 in Frankfurt."
        assert sentences.splitlines()[-1] == "Now with 1 other in the room: 1 in Frankfurt."
        assert table.splitlines()[1].split()[:4] == ["→", "eu-frankfurt", "eu-frankfurt-1", "5.0"]
        as_json = (await thalweg(api, "explain", "standup", "ana", "-o", "json")).json
        assert (as_json["participant"], as_json["node"]) == ("ana", "eu-frankfurt-1")

        asked = await thalweg(
            api, "explain", "--ip", "192.0.2.7", "--room", "standup", "--role", "viewer"
        )
        assert asked.out.startswith("This client would go to eu-frankfurt-1 in Frankfurt.\n")
        refused = await thalweg(api, "explain", "--ip", "192.0.2.7", "--residency", "mars")
        assert refused.code == 0
        assert refused.out.startswith("Nobody can take this client now.\n")
        assert len((await api.call("GET", "/v1/rooms/standup")).json["participants"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Whose decision?"),
        (("standup",), "Whose decision?"),
        (("standup", "--ip", "192.0.2.1"), "Either ROOM and PARTICIPANT, or --ip."),
        (("a", "b", "--room", "c"), "--room and --residency go with --ip."),
        (("standup", "nobody"), "There is no participant nobody in room standup."),
        (("--ip", "nonsense"), "this is no IPv4 or IPv6 address"),
    ],
)
async def test_a_wrong_question_is_answered_with_the_right_one(
    api: Api, arguments: tuple[str, ...], words: str
) -> None:
    done = await thalweg(api, "explain", *arguments)
    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert "Traceback" not in done.err


# --- topology -------------------------------------------------------------------------------------


async def test_a_diff_ends_with_the_exit_codes_of_terraform(
    api: Api, smaller: str, same: str
) -> None:
    nothing = await thalweg(api, "topology", "diff", same)
    assert (nothing.code, nothing.out) == (0, "No changes: both mean the same.\n")
    found = await thalweg(api, "topology", "diff", smaller)
    assert found.code == 2, found.err
    assert found.out.splitlines()[0] == "- region eu-frankfurt"
    assert found.out.splitlines()[-1] == "Changes: 0 to add, 0 to change, 3 to remove."
    offline = await thalweg(None, "topology", "diff", smaller, same, "-o", "json", key=None)
    assert (offline.code, offline.err) == (2, "")
    assert {one["kind"] for one in offline.json["changes"]} == {"+"}
    for wrong in (("never.yaml",), (), (smaller, "--banana"), (smaller, smaller, smaller)):
        assert (await thalweg(api, "topology", "diff", *wrong)).code == 1
    assert (await thalweg(None, "topology", "diff", smaller)).code == 1


async def test_a_plan_tells_who_would_move_and_is_applied_once(
    api: Api, smaller: str, tmp_path: Path
) -> None:
    plan_file = str(tmp_path / "plan.json")
    async with relays(api, *EVERYWHERE):
        await two_people(api)
        planned = await thalweg(api, "topology", "plan", smaller, "--out", plan_file)
        assert planned.code == 0, planned.err
        assert "2 people would move (2 because they have to), of 2 people in 1 room:" in planned.out
        assert "Residency: nobody's rule would be broken." in planned.out
        assert "us-virginia" in planned.out
        assert planned.out.endswith(f"thalweg topology apply {plan_file}\n")
        assert (await thalweg(api, "topology", "plan", smaller, "--detailed-exitcode")).code == 2

        for arguments, words in (
            ((), "2 people would move, and that is not confirmed."),
            (("--confirm-moves", "1"), "2 people would move, and at most 1 may."),
            (("--confirm-moves=many",), "this is no number of people"),
        ):
            refused = await thalweg(api, "topology", "apply", plan_file, *arguments)
            assert refused.code == 1
            assert words in refused.err
        looked = await thalweg(api, "topology", "apply", plan_file, "--dry-run")
        assert (looked.code, looked.out.splitlines()[-1]) == (0, "Nothing was changed.")
        assert (await api.call("GET", "/v1/topology")).headers["ETag"] == '"1"'

        applied = await thalweg(api, "topology", "apply", plan_file, "--confirm-moves", "2")
        assert applied.code == 0, applied.err
        assert applied.out.splitlines()[-1] == "In force as version 2."
        assert (await api.call("GET", "/v1/topology")).text == WITHOUT_FRANKFURT

        stale = await thalweg(api, "topology", "apply", "--confirm-moves", plan_file)
        assert stale.code == 1
        assert "The plan is stale: it was made for version 1 of the topology" in stale.err
        assert "Plan again" in stale.err

        async def moved() -> str | None:
            room = (await api.call("GET", "/v1/rooms/standup")).json["participants"]
            regions = {one["region"] for one in room}
            return None if regions == {"us-virginia"} else f"still in {regions}"

        await eventually(moved)


async def test_a_file_is_applied_at_once_when_nobody_moves(
    api: Api, smaller: str, same: str
) -> None:
    applied = await thalweg(api, "topology", "apply", smaller, "-o", "json")
    assert applied.code == 0, applied.err
    assert (applied.json["applied"], applied.json["version"]) == (True, 2)
    back = await thalweg(api, "topology", "apply", same)
    assert back.out.splitlines()[-1] == "In force as version 3."


async def test_a_bad_file_is_shown_with_its_lines_and_nothing_is_sent(
    api: Api, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nregions:\n  a: {location: {lat: 91, lon: 2}}\n")
    for command in ("plan", "apply", "diff"):
        refused = await thalweg(api, "topology", command, str(bad))
        assert refused.code == 1
        assert f"{bad}:3:23: TOPO007" in refused.err
        assert "has 1 mistake." in refused.err
    plan = tmp_path / "plan.json"
    plan.write_text('{"thalweg_plan": 99}')
    refused = await thalweg(api, "topology", "apply", str(plan))
    assert "is a plan that this program cannot read" in refused.err


async def test_status_shows_what_is_wanted_beside_what_is_there(api: Api, smaller: str) -> None:
    async with relays(api, "eu-frankfurt", "us-virginia"):
        await thalweg(
            api, "node", "drain", "us-virginia-1", "--reason", "new kernel", "--deadline", "90s"
        )
        shown = await thalweg(api, "topology", "status")
        assert shown.code == 0, shown.err
        assert shown.out.startswith(f"Topology version 1 at {api.url}; ")
        rows = {row.split()[0]: row for row in shown.out.splitlines()[2:]}
        assert rows["ap-singapore"].split()[2] == "0/1"
        assert rows["eu-frankfurt"].split()[2] == "1/1"
        assert "us-virginia-1" in rows["us-virginia"]
        assert "(new kernel)" in rows["us-virginia"]
        await thalweg(api, "topology", "apply", smaller)
        facts = (await thalweg(api, "topology", "status", "-o", "json")).json
        frankfurt = facts["regions"][-1]
        assert (facts["version"], frankfurt["region"], frankfurt["declared"]) == (
            2,
            "eu-frankfurt",
            False,
        )
        assert "not in the topology" in (await thalweg(api, "topology", "status")).out
    assert (
        "does not go with -o json"
        in (await thalweg(api, "topology", "status", "-w", "-o", "json")).err
    )


async def test_a_watch_goes_on_until_it_is_interrupted(api: Api) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controlplane", "topology", "status", "--watch", "--interval", "1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **ENVIRONMENT,
            "THALWEG_URL": api.url,
            "THALWEG_API_KEY": KEY,
            "PYTHONUNBUFFERED": "1",
        },
    )
    assert process.stdout is not None
    looks = 0
    async with asyncio.timeout(20):
        while looks < 2:
            looks += b"Topology version 1" in await process.stdout.readline()
    process.send_signal(2)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


# --- the way there --------------------------------------------------------------------------------


async def test_keys_come_from_the_environment_or_a_file_and_never_a_flag(
    api: Api, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    done = await thalweg(api, "node", "list", "--api-key-file", str(key_file), key=None)
    assert (done.code, done.out) == (0, "No node has registered.\n")
    assert "There is no API key." in (await thalweg(api, "node", "list", key=None)).err
    assert "does not know the key" in (await thalweg(api, "node", "list", key="wrong")).err
    key_file.write_text(f"app:{'0' * 64}\n")
    hashes = await thalweg(api, "node", "list", "--api-key-file", str(key_file), key=None)
    assert "is the server's file, which has hashes of keys" in hashes.err
    helped = await thalweg(None, "node", "list", "--help")
    assert "--api-key-file" in helped.out
    assert KEY not in done.out + done.err + hashes.err


async def test_failures_on_the_way_are_one_sentence_and_a_next_step() -> None:
    for url, words in (
        ("http://127.0.0.1:9", "nothing listens there"),
        ("127.0.0.1:8080", "is no URL of a control plane"),
        ("http://user:secret@127.0.0.1:9", "the URL has more than scheme, host, port and path"),
    ):
        done = await thalweg(None, "node", "list", "--url", url)
        assert (done.code, done.out) == (1, "")
        assert words in done.err
        assert "secret" not in done.err
        assert len(done.err.splitlines()) == 2
    missing = await thalweg(None, "node", "show", "never", "--url", "http://127.0.0.1:9")
    assert missing.code == 1


async def test_a_wrong_duration_is_a_mistake_on_the_command_line(api: Api) -> None:
    done = await thalweg(api, "node", "drain", "fra-1", "--deadline", "banana")
    assert done.code == 2
    assert "is no duration" in done.err


async def test_a_reader_that_leaves_early_is_no_failure(api: Api) -> None:
    read, write = os.pipe()
    os.close(read)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controlplane", "node", "list"),
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
        env={**ENVIRONMENT, "THALWEG_URL": api.url, "THALWEG_API_KEY": KEY},
    )
    os.close(write)
    _, err = await process.communicate()
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    "command",
    [
        ("node", "list"), ("node", "show"), ("node", "drain"), ("node", "undrain"), ("room", "list"),
        ("room", "show"), ("explain",), ("topology", "diff"), ("topology", "plan"),
        ("topology", "apply"), ("topology", "status"),
    ],
)  # fmt: skip
async def test_help_teaches_with_an_example(command: tuple[str, ...]) -> None:
    helped = await thalweg(None, *command, "--help", key=None)
    assert helped.code == 0
    assert "Example" in helped.out
    assert "--output" in helped.out

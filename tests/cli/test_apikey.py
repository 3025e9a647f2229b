"""`thalweg apikey`, run as operators run it."""

import hashlib
import json
from pathlib import Path

from controlplane.api.keys import ApiKeys
from controlplane.core.identity import Caller, Scope
from tests.cli.asking import Done, thalweg


async def apikey(file: Path, *arguments: str) -> Done:
    return await thalweg(None, "apikey", *arguments, "--file", str(file), key=None)


async def test_the_life_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "api-keys"
    made = await apikey(file, "create", "ops", "--scope", "read", "--scope", "admin")
    assert made.code == 0, made.err
    key = made.out.strip()
    assert ApiKeys.parse(file.read_text()).caller(key) == Caller(
        "ops", "default", frozenset({Scope.READ, Scope.ADMIN})
    )
    assert file.stat().st_mode & 0o777 == 0o600
    second = (await apikey(file, "create", "acme", "--tenant", "acme", "-o", "json")).json
    assert second["scopes"] == ["join", "read"]
    assert ApiKeys.parse(file.read_text()).caller(second["key"]).tenant == "acme"
    listed = await apikey(file, "list", "-o", "json")
    names = [(one["name"], one["tenant"], one["scopes"]) for one in listed.json["keys"]]
    assert names == [("ops", "default", ["read", "admin"]), ("acme", "acme", ["join", "read"])]
    id_ = second["key"].rpartition("_")[0]
    assert listed.json["keys"][1]["comment"].startswith(f"{id_}, 2")
    for text in (listed.out, file.read_text()):
        assert key not in text
        assert second["key"] not in text
    assert (await apikey(file, "revoke", "ops")).code == 0
    assert [one.caller.name for one in ApiKeys.parse(file.read_text())] == ["acme"]


async def test_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    file = tmp_path / "api-keys"
    digest = hashlib.sha256(b"sesame").hexdigest()
    by_hand = f"# ours\n\nold:{digest}  # since 2024"
    file.write_text(by_hand)
    assert (await apikey(file, "create", "new")).code == 0
    assert file.read_text().startswith(f"{by_hand}\nnew:")
    assert (await apikey(file, "revoke", "new")).code == 0
    assert file.read_text() == f"{by_hand}\n"
    table = (await apikey(file, "list")).out.splitlines()
    assert [line.split() for line in table] == [
        ["NAME", "TENANT", "SCOPES", "COMMENT"],
        ["old", "default", "join,read,admin", "since", "2024"],
    ]


async def test_refusals_change_nothing(tmp_path: Path) -> None:
    file, broken = tmp_path / "api-keys", tmp_path / "broken"
    assert (await apikey(file, "create", "app")).code == 0
    before = file.read_text()
    broken.write_text("app:sesame\n")
    for path, arguments, said in (
        (file, ("create", "app"), "has a key named app already"),
        (file, ("create", "a:b"), "'a:b' is no name of a key"),
        (file, ("create", "x", "--tenant", "Acme"), "'Acme' is no tenant"),
        (file, ("create", "x", "--tenant", "a", "--scope", "admin"), "reaches all tenants"),
        (file, ("revoke", "x"), "has no key named x"),
        (file, ("revoke", "app"), "app is the only key"),
        (broken, ("create", "x"), "line 1: not NAME:SHA256HEX"),
        (broken, ("list",), "line 1: not NAME:SHA256HEX"),
        (tmp_path / "none", ("list",), "No such file"),
        (tmp_path / "none" / "f", ("create", "x"), "No such file"),
    ):
        done = await apikey(path, *arguments)
        assert (done.code, done.out) == (1, ""), (arguments, done)
        assert said in done.err
        assert "sesame" not in done.err
    assert file.read_text() == before
    assert broken.read_text() == "app:sesame\n"
    assert json.loads((await apikey(file, "list", "-o", "json")).out)["keys"][0]["name"] == "app"

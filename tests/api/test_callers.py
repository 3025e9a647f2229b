"""Keys that come and go while a control plane runs."""

import asyncio
import hashlib
import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.api import callers
from controlplane.api.callers import REFUSED_BURST, REFUSED_PER_S, Callers, jwks_file, key_file
from controlplane.api.http import events
from controlplane.errors import TooManyRequestsError, UnauthenticatedError
from tests.api import who
from tests.api.harness import Api, running, settings
from tests.api.test_events_http import Reader, stream
from tests.api.who import jwks, token
from tests.fakes.waiting import eventually


def line(name: str) -> str:
    return f"{name}:{hashlib.sha256(name.encode()).hexdigest()}\n"


async def status(api: Api, key: str) -> int:
    return (await api.call("GET", "/v1/rooms", key=key)).status


async def test_files_are_followed_without_a_pause(
    tls_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "POLL_S", 0.05)
    keys, signers = tmp_path / "keys", tmp_path / "jwks.json"
    keys.write_text(line("old"))
    signers.write_text(json.dumps(jwks()))
    followed = await asyncio.to_thread(lambda: Callers(key_file(keys), jwks_file(signers)))
    async with running(settings(tls_dir, callers=followed)) as api:

        async def until(key: str, wanted: int) -> None:
            async def look() -> str | None:
                found = await status(api, key)
                return None if found == wanted else f"{found}"

            await eventually(look)

        async def broken() -> str:
            metrics = (await api.call("GET", "/metrics", key="old")).text
            return "\n".join(one for one in metrics.splitlines() if "thalweg_broken_files{" in one)

        acme = token("jwt-acme")
        assert [await status(api, one) for one in ("old", "new", acme)] == [200, 401, 200]
        keys.write_text(line("old") + line("new"))
        await until("new", 200)
        keys.write_text("nonsense")
        signers.write_text("nonsense")

        async def both_are_broken() -> str | None:
            found = await broken()
            return None if found.count(" 1.0") == 2 else found

        await eventually(both_are_broken)
        assert [await status(api, one) for one in ("old", "new", acme)] == [200, 200, 200]
        keys.write_text(line("new") + line("old") + "# and\n" + line("third"))
        await until("third", 200)
        keys.write_text(line("old"))
        signers.write_text(json.dumps({"keys": jwks()["keys"][1:]}))
        await until("new", 401)
        await until(acme, 401)
        assert await status(api, "old") == 200
        assert (await broken()).count(" 0.0") == 2


async def to_the_end(reader: Reader) -> None:
    for _ in range(100):
        await reader.block()


async def test_a_stream_ends_with_its_key(
    tls_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "POLL_S", 0.05)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    keys, signers = tmp_path / "keys", tmp_path / "jwks.json"
    keys.write_text(line("old") + line("new"))
    signers.write_text(json.dumps(jwks()))
    followed = await asyncio.to_thread(lambda: Callers(key_file(keys), jwks_file(signers)))
    async with running(settings(tls_dir, callers=followed)) as api:
        for key in ("old", token("jwt-acme")):
            async with stream(api, key=key) as reader:
                assert await reader.block() == {"": "alive"}
                keys.write_text(line("new"))
                signers.write_text(json.dumps({"keys": jwks()["keys"][1:]}))
                with pytest.raises(EOFError):
                    await to_the_end(reader)
            signers.write_text(json.dumps(jwks()))

            async def acme_is_back() -> str | None:
                return None if await status(api, token("jwt-acme")) == 200 else "not yet"

            await eventually(acme_is_back)


async def test_a_jwt_without_a_jwks_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(line("old"))
    known = await asyncio.to_thread(lambda: Callers(key_file(tmp_path / "keys"), jwks_file(None)))
    for sent, code in (
        (f"Bearer {token()}", "api-key-unknown"),
        ("Bearer " + "x" * 5000, "credentials-too-long"),
        (None, "api-key-missing"),
    ):
        with pytest.raises(UnauthenticatedError) as caught:
            known.caller(sent, peer=lambda: None, now=0.0)
        assert caught.value.code == code


def test_an_address_whose_jwts_are_refused_has_to_wait() -> None:
    """Otherwise whoever sends forged ones faster than their signatures can be checked takes the whole core."""
    known, now = who.callers(), time.time()  # noqa: TID251  tokens are made by the same clock
    good, forged = token(), token(key=Ed25519PrivateKey.generate())

    def code(sent: str, address: str | None = "203.0.113.9", later_s: float = 0.0) -> str:
        try:
            known.caller(f"Bearer {sent}", peer=lambda: address, now=now + later_s)
        except UnauthenticatedError as error:
            return error.code
        return "ok"

    assert {code(good) for _ in range(2 * REFUSED_BURST)} == {"ok"}
    assert {code(forged) for _ in range(REFUSED_BURST)} == {"jwt-forged"}
    for sent in (forged, good):
        with pytest.raises(TooManyRequestsError, match="too many JWTs"):
            code(sent)
    assert code("a-key-that-nobody-has") == "api-key-unknown"
    assert [code(good, other) for other in ("203.0.113.10", None)] == ["ok", "ok"]
    assert code(good, later_s=2 / REFUSED_PER_S) == "ok"

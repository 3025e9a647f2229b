"""The process's own files while it runs: a good version is taken, a broken one is told, an end is announced."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.adapters.tls_files import TlsFiles, read
from controlplane.api import certificates
from controlplane.api.certificates import Certificates, Gauges
from tests.api.harness import AUTHORITY, CLIENT, SERVER
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import eventually

NOW = datetime.now(UTC)  # noqa: TID251
FILES = ("ca.pem", "cert.pem", "key.pem")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    SERVER.write(tmp_path)
    return tmp_path


def test_files_are_taken_when_they_belong_together(directory: Path) -> None:
    files = TlsFiles(directory)
    assert not files.poll()
    (directory / "cert.pem").write_bytes(CLIENT.cert)
    assert not files.poll()  # perhaps between two writes
    assert files.poll()
    assert "not the key of its cert.pem" in files.problem
    assert not files.poll()  # told once
    assert files.value.cert == SERVER.cert
    (directory / "key.pem").write_bytes(CLIENT.key)
    assert files.poll()
    assert (files.problem, files.value.cert) == ("", CLIENT.cert)
    (directory / "ca.pem").unlink()
    assert [files.poll(), files.poll()] == [False, True]
    assert "cannot be read" in files.problem
    SERVER.write(directory)
    assert files.poll()
    assert (files.problem, files.value.cert) == ("", SERVER.cert)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_what_is_no_certificate_is_refused(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    with pytest.raises(ValueError, match="holds no certificate with its unencrypted key"):
        read(directory)


@asynccontextmanager
async def following(files: TlsFiles, gauges: Gauges) -> AsyncIterator[None]:
    clock = FakeClock(NOW.timestamp())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Certificates(files, (), gauges, clock).follow())
        yield
        task.cancel()


async def test_operators_are_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "POLL_S", 0.02)
    files = await asyncio.to_thread(TlsFiles, directory)
    told: list[tuple[str, bool]] = []
    left: list[float] = []
    gauges = Gauges(lambda flag, broken: told.append((flag, broken)), left.append)
    with capture_logs() as logs:
        async with following(files, gauges):
            await asyncio.to_thread((directory / "key.pem").write_bytes, CLIENT.key)
            await eventually(lambda: None if told == [("tls-dir", True)] else f"{told}")
            await asyncio.to_thread(SERVER.write, directory)
            await eventually(lambda: None if len(told) == 2 else f"{told}")
    assert told[1] == ("tls-dir", False)
    assert left[0] == pytest.approx(timedelta(days=1).total_seconds(), abs=60)
    assert [one["log_level"] for one in logs] == ["error", "info"]
    assert logs[0]["file"] == str(directory)


async def test_a_certificate_that_ends_soon_is_announced_once_an_hour(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "POLL_S", 0.01)
    late = AUTHORITY.issue(
        "spiffe://thalweg/controlplane/x",
        now=NOW - timedelta(hours=23),
        lifetime=timedelta(hours=24),
    )
    await asyncio.to_thread(late.write, directory)
    files = await asyncio.to_thread(TlsFiles, directory)
    with capture_logs() as logs:
        async with following(files, Gauges(lambda *_: None, lambda _: None)):
            await asyncio.sleep(0.1)
    assert [one["event"].split(":")[0] for one in logs] == ["THE CERTIFICATE IS ABOUT TO END"]
    assert logs[0]["hours_left"] == 1.0

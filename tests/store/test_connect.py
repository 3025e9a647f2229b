"""What operators write after --redis, and which server it leads to."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.adapters.ca import Bundle, CertificateAuthority
from controlplane.store.redis.connect import FAILURES, connector_of
from controlplane.store.redis.target import Target, parse_target
from tests.store.sentinel import NAME, Sentinel, SentinelSetup, wait_until
from tests.store.servers import RedisServer, free_port


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://r", Target("single", (("r", 6379),))),
        ("redis://10.0.0.1:7000/3", Target("single", (("10.0.0.1", 7000),), db=3)),
        ("redis://[2001:db8::1]:7000", Target("single", (("2001:db8::1", 7000),))),
        ("redis://[2001:db8::1]", Target("single", (("2001:db8::1", 6379),))),
        ("rediss://thalweg@r", Target("single", (("r", 6379),), username="thalweg", tls=True)),
        (
            "rediss://r?ca=/etc/ca.pem",
            Target("single", (("r", 6379),), tls=True, ca=Path("/etc/ca.pem")),
        ),
        (
            "redis+sentinel://a:1,b,c:3/main",
            Target("sentinel", (("a", 1), ("b", 26379), ("c", 3)), master="main"),
        ),
        ("redis+cluster://a:1,b:2", Target("cluster", (("a", 1), ("b", 2)))),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://r", "none of redis"),
        ("redis+other://r", "none of redis"),
        ("redis://:secret@r", "--redis-password-file"),
        ("redis://user:secret@r", "--redis-password-file"),
        ("redis://r:port", "HOST:PORT"),
        ("redis://r:99999", "HOST:PORT"),
        ("redis://", "HOST:PORT"),
        ("redis://r/x", "number of a database"),
        ("redis+sentinel://a:1", "master's name"),
        ("redis+cluster://a:1/2", "number of a database"),
        ("redis+sentinel://a:1,,b:2/main", "HOST:PORT"),
    ],
)
def test_urls_that_are_none(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_target(url)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(parse_target("redis://r", "secret"))


async def test_a_password_is_used_and_a_wrong_one_refused() -> None:
    server = RedisServer("--requirepass", "secret")
    try:
        for password, works in (("secret", True), ("other", False), (None, False)):
            connector = connector_of(parse_target(server.url, password))
            try:
                if works:
                    assert (await connector.connect(0)).run_id
                else:
                    with pytest.raises(FAILURES):
                        await connector.connect(0)
            finally:
                await connector.close()
    finally:
        server.close()


def tls_server(folder: Path, *, name: str, is_ours: bool) -> tuple[RedisServer, str]:
    """A server with a certificate for `name` by our authority or another one, and the URL that trusts ours."""
    now, day = datetime.now(UTC), timedelta(days=1)  # noqa: TID251
    ours, other = (CertificateAuthority.create(one, now=now, lifetime=day) for one in ("a", "b"))

    def issue(authority: CertificateAuthority) -> Bundle:
        path = "spiffe://thalweg/client/redis"
        return authority.issue(path, dns_names=[name], ip_addresses=[], now=now, lifetime=day)

    issue(ours if is_ours else other).write(folder)
    trusted, port = folder / "ours.pem", free_port()
    trusted.write_bytes(issue(ours).ca)
    server = RedisServer(
        "--tls-port", str(port), "--tls-auth-clients", "no",
        "--tls-ca-cert-file", str(folder / "ca.pem"),
        "--tls-cert-file", str(folder / "cert.pem"),
        "--tls-key-file", str(folder / "key.pem"),
    )  # fmt: skip
    return server, f"rediss://localhost:{port}?ca={trusted}"


@pytest.mark.parametrize(
    ("name", "is_ours", "works"),
    [("localhost", True, True), ("elsewhere.example", True, False), ("localhost", False, False)],
    ids=["good", "of another host", "of an authority that is not ours"],
)
async def test_tls_to_redis_believes_the_right_certificate_only(
    tmp_path: Path, name: str, is_ours: bool, works: bool
) -> None:
    server, url = await asyncio.to_thread(tls_server, tmp_path, name=name, is_ours=is_ours)
    connector = connector_of(parse_target(url))
    try:
        if works:
            assert (await connector.connect(0)).run_id
        else:
            with pytest.raises(FAILURES):
                await connector.connect(0)
    finally:
        await connector.close()
        server.close()


async def test_a_replica_of_redis_is_not_taken_for_a_master(redis_server: RedisServer) -> None:
    server = RedisServer("--replicaof", "127.0.0.1", str(redis_server.port))
    connector = connector_of(parse_target(server.url))
    try:
        with pytest.raises(ConnectionError, match="no master"):
            await connector.connect(0)
    finally:
        await connector.close()
        server.close()


async def test_sentinels_have_a_password_of_their_own() -> None:
    server = RedisServer("--requirepass", "secret")
    sentinel = Sentinel(
        server.port,
        1000,
        quorum=1,
        lines=["requirepass other", f"sentinel auth-pass {NAME} secret"],
    )
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}"
    try:
        connector = connector_of(parse_target(url, "secret\nother\n"))
        try:
            assert (await connector.connect(0)).run_id
        finally:
            await connector.close()
        for passwords in ("secret", "secret\nwrong"):
            connector = connector_of(parse_target(url, passwords))
            try:
                with pytest.raises(ConnectionError, match=r"(?i)auth|password"):
                    await connector.connect(0)
            finally:
                await connector.close()
    finally:
        sentinel.close()
        server.close()


async def test_sentinels_lead_to_the_master_that_needs_to_be_confirmed() -> None:
    setup = SentinelSetup()
    connector = connector_of(parse_target(setup.url))
    try:
        setup.sentinels[0].kill()  # one of them need not be there
        link = await connector.connect(0)
        assert (await link.client.info("server"))["tcp_port"] == setup.servers[0].port
        assert (link.generation, link.acks) == (0, 1)
    finally:
        await connector.close()
        setup.close()


def _replicas_of(sentinel: Sentinel) -> bytes:
    return sentinel.command("SENTINEL", "SLAVES", NAME)


async def test_a_new_master_is_gone_to_before_everybody_follows_it() -> None:
    """The Sentinel that leads the fail-over calls the old master down, and the master, until the last one does."""
    async with contextlib.AsyncExitStack() as stack:
        master = stack.enter_context(contextlib.closing(RedisServer()))
        follows = ("--replicaof", "127.0.0.1", str(master.port))
        names = ("SYNC", "PSYNC")
        deaf = [word for name in names for word in ("--rename-command", name, f"NO{name}")]
        heir = stack.enter_context(contextlib.closing(RedisServer(*follows, *deaf)))
        never = ("--replica-priority", "0")
        stack.enter_context(contextlib.closing(RedisServer(*follows, *never)))
        wait_until(lambda: master.command("INFO", "replication").count(b"state=online") == 2)
        sentinel = stack.enter_context(contextlib.closing(Sentinel(master.port, 500, quorum=1)))
        wait_until(lambda: b"slave-priority\r\n$1\r\n0" in _replicas_of(sentinel))
        connector = connector_of(parse_target(f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}"))
        stack.push_async_callback(connector.close)
        assert (await connector.connect(0)).generation == 0
        master.kill()
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0.05)
                with contextlib.suppress(*FAILURES):
                    link = await connector.connect(0)
                    break
        assert b"o_down" in sentinel.command("SENTINEL", "MASTER", NAME)
        assert (await link.client.info("server"))["tcp_port"] == heir.port
        assert link.generation == 1

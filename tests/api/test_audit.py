"""The audit log: every change with who, what, when and result; no secrets, few lines for strangers."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.api.audit import LOGGER, REFUSALS_PER_MINUTE, Attempt, Audit
from controlplane.core.identity import Caller, Scope
from controlplane.errors import ForbiddenError, InvalidInputError, NotFoundError, UnavailableError
from controlplane.store.memory import MemoryStore
from tests.api.fake_relay import relays
from tests.api.harness import Api, running, settings
from tests.api.test_events_http import stream
from tests.api.who import callers
from tests.fakes.clock import FakeClock

ANA = "/v1/rooms/r/participants/ana"
DRAIN = "/v1/nodes/eu-frankfurt-1/drain"
SECRETS = ("acme-secret", "Bearer", "127.0.0.1", "eyJ")


@pytest.fixture
async def api(tls_dir: Path) -> AsyncIterator[Api]:
    async with (
        running(settings(tls_dir, callers=callers())) as found,
        relays(found, "eu-frankfurt", key="root"),
    ):
        yield found


def audits(logs: list[Any]) -> list[dict[str, Any]]:
    lines = [one for one in logs if one["event"] == "audit"]
    assert all(one["logger"] == LOGGER for one in lines)
    assert not any(secret in json.dumps(lines) for secret in SECRETS)
    return lines


async def test_every_change_has_a_line_and_what_changes_nothing_none(api: Api) -> None:
    with capture_logs() as logs:
        for body in ({"session": "s"}, {"session": "s"}, {"session": 1}):
            await api.call("PUT", ANA, body, key="acme", headers={"X-Request-Id": "r-1"})
        await api.call("GET", ANA, key="acme")
        await api.call("POST", "/v1/probe-plans", {}, key="acme")
        await api.call("DELETE", ANA, key="acme")
        await api.call("DELETE", ANA, key="acme")
        await api.call("PUT", f"{DRAIN}?dry_run=true", {}, key="ops")
        await api.call("PUT", DRAIN, {"reason": "new kernel"}, key="ops")
    [joined, left, drained] = audits(logs)
    assert joined == {
        "event": "audit",
        "log_level": "info",
        "logger": "audit",
        "action": "participant.join",
        "by": "acme",
        "tenant": "acme",
        "from": "127.0.0.0/24",
        "request": "r-1",
        "result": "done",
        "room": "acme:r",
        "participant": "ana",
        "node": "eu-frankfurt-1",
    }
    assert (left["action"], left["by"], left["result"]) == ("participant.leave", "acme", "done")
    assert (drained["action"], drained["by"], drained["tenant"]) == ("node.drain", "ops", "default")
    assert (drained["node"], drained["reason"]) == ("eu-frankfurt-1", "new kernel")


async def test_refused_changes_have_lines_and_refused_reads_none(api: Api) -> None:
    with capture_logs() as logs:
        await api.call("PUT", ANA, {"session": "s"}, key=None)
        await api.call("PUT", ANA, {"session": "s"}, key="acme-secret")
        await api.call("DELETE", ANA, key="reader")
        await api.call("PUT", DRAIN, {}, key="acme")
        await api.call("PUT", "/v1/nodes/never/drain", {}, key="ops")
        await api.call("GET", "/v1/nodes", key="acme")
        await api.call("GET", ANA, key=None)
    found = [(one["action"], one["by"], one["result"]) for one in audits(logs)]
    assert found == [
        ("participant.join", None, "api-key-missing"),
        ("participant.join", None, "api-key-unknown"),
        ("participant.leave", "reader", "scope-missing"),
        ("node.drain", "acme", "scope-missing"),
        ("node.drain", "ops", "node-not-found"),
    ]


async def test_what_admins_do_is_an_event_for_admins(api: Api) -> None:
    async with stream(api, key="ops") as ops, stream(api, key="acme") as acme:
        await api.call("PUT", DRAIN, {"reason": "why"}, key="ops")
        await api.call("DELETE", DRAIN, key="ops")
        await api.call("PUT", ANA, {"session": "s"}, key="acme")
        kinds: list[str] = []
        said: list[dict[str, Any]] = []
        while kinds[-1:] != ["participant.assigned"]:
            _, kind, data = await ops.event()
            kinds.append(kind)
            said += [data] if kind == "audit" else []
        assert [(one["action"], one["by"], one["result"]) for one in said] == [
            ("node.drain", "ops", "done"),
            ("node.undrain", "ops", "done"),
        ]
        assert said[0]["reason"] == "why"
        assert (await acme.event())[1] == "participant.assigned"


@pytest.mark.parametrize("sent", ["", "a b", "a" * 65, "ä"])
async def test_a_request_id_that_is_none_is_replaced(api: Api, sent: str) -> None:
    answer = await api.call("GET", "/healthz", headers={"X-Request-Id": sent})
    assert len(answer.headers["X-Request-Id"]) == 16
    assert answer.headers["X-Request-Id"] != sent
    kept = await api.call("GET", "/no/such/path", headers={"X-Request-Id": "mine.1"})
    assert kept.headers["X-Request-Id"] == "mine.1"


ATTEMPT = Attempt("participant.join", Scope.JOIN, "203.0.113.9", "r")
DRAINING = Attempt("node.drain", Scope.ADMIN, "2001:db8:1:2::3", "r")
OPS = Caller("ops")


async def test_strangers_get_few_lines_that_count_the_rest() -> None:
    clock = FakeClock(600.0)
    audit = Audit(MemoryStore(), clock)
    refused = ForbiddenError("scope-missing", "no")
    with capture_logs() as logs:
        for _ in range(REFUSALS_PER_MINUTE + 70):
            await audit.failed(ATTEMPT, None, refused, {})
        clock.advance(60)
        await audit.failed(ATTEMPT, None, refused, {})
        await audit.failed(ATTEMPT, None, refused, {})
    assert len(logs) == REFUSALS_PER_MINUTE + 2
    assert [one.get("left_out") for one in logs[-3:]] == [None, 70, None]


async def test_what_strangers_get_wrong_is_bounded_and_no_event() -> None:
    store = MemoryStore()
    audit = Audit(store, FakeClock(600.0))
    before = await store.last_event_id()
    with capture_logs() as logs:
        for _ in range(REFUSALS_PER_MINUTE + 70):
            await audit.failed(DRAINING, None, InvalidInputError("csr-invalid", "no"), {})
    assert len(logs) == REFUSALS_PER_MINUTE
    assert await store.last_event_id() == before


async def test_lines_of_admins_are_never_left_out() -> None:
    audit = Audit(MemoryStore(), FakeClock(600.0))
    with capture_logs() as logs:
        for _ in range(REFUSALS_PER_MINUTE + 70):
            await audit.failed(DRAINING, OPS, NotFoundError("node-not-found", "no"), {})
    assert len(logs) == REFUSALS_PER_MINUTE + 70
    assert logs[0]["from"] == "2001:db8:1::/48"


class StoreAway(MemoryStore):
    async def append_event(self, type_: str, data: Mapping[str, object], *, now: float) -> None:
        raise UnavailableError("state-unavailable", f"no place for {type_} of {now}: {data}")


async def test_an_event_that_cannot_be_kept_does_not_undo_what_was_done() -> None:
    audit = Audit(StoreAway(), FakeClock(600.0))
    with capture_logs() as logs:
        await audit.done(DRAINING, OPS, {"node": "n"})
    assert [one["event"] for one in logs] == ["audit", "an audit event was not kept"]

"""Too many questions: who is refused, how, and that nothing is left of it."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from thalweg.v1 import allocator_pb2, allocator_pb2_grpc

from controlplane.api import overload as module
from controlplane.api.overload import RETRY_AFTER_S, Overload
from controlplane.core.shedding import DEADLINE_S, Cost, Pressure
from controlplane.errors import ControlPlaneError, TooManyRequestsError, UnavailableError
from tests.api.fake_relay import relays
from tests.api.harness import KEY, running, settings

LATE = Pressure(lag_s=10.0, cpu=1.0)


def overload(**settings: object) -> Overload:
    return Overload(CollectorRegistry(), dice=lambda: 0.5, **settings)  # type: ignore[arg-type]


async def served(guard: Overload, cost: Cost, until: asyncio.Event) -> str:
    try:
        async with guard.place(cost):
            await until.wait()
    except ControlPlaneError as error:
        return error.code
    return "served"


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES", 2)


@pytest.mark.usefixtures("few_places")
async def test_repeats_get_the_next_place_before_joins_and_those_before_reads() -> None:
    guard, order = overload(), list[Cost]()
    gates = [asyncio.Event() for _ in range(2)]

    async def wait(cost: Cost) -> None:
        async with guard.place(cost):
            order.append(cost)

    async with asyncio.TaskGroup() as tasks:
        holders = [tasks.create_task(served(guard, Cost.JOIN, gate)) for gate in gates]
        await asyncio.sleep(0)
        for cost in (Cost.READ, Cost.JOIN, Cost.REPEAT):
            tasks.create_task(wait(cost))
        await asyncio.sleep(0)
        assert guard.waiting == 3
        gates[0].set()
        await holders[0]
        await asyncio.sleep(0.01)
        gates[1].set()
    assert order == [Cost.REPEAT, Cost.JOIN, Cost.READ]
    assert (guard.waiting, guard._in_work) == (0, 0)


@pytest.mark.usefixtures("few_places")
async def test_nobody_waits_longer_than_the_deadline() -> None:
    guard, never = overload(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(served(guard, Cost.JOIN, never))
        await asyncio.sleep(0)
        began = time.monotonic()
        assert await served(guard, Cost.JOIN, never) == "overloaded"
        assert DEADLINE_S <= time.monotonic() - began < DEADLINE_S + 0.5
        never.set()
    assert (guard.waiting, guard._in_work) == (0, 0)


@pytest.mark.usefixtures("few_places")
async def test_who_would_wait_too_long_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_not_wait", lambda waiting, _: "full" if waiting else None)
    guard, end = overload(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(served(guard, Cost.JOIN, end))
        await asyncio.sleep(0)
        assert await served(guard, Cost.REPEAT, end) == "overloaded"
        end.set()


@pytest.mark.usefixtures("few_places")
@pytest.mark.usefixtures("few_places")
async def test_reads_that_wait_keep_no_repeat_from_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.core.shedding.MAX_WAITING", 3)
    guard, gate = overload(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(served(guard, Cost.READ, gate)) for _ in range(6)]
        await asyncio.sleep(0)
        repeat = tasks.create_task(served(guard, Cost.REPEAT, gate))
        await asyncio.sleep(0)
        gate.set()
    assert await repeat == "served"
    assert [await one for one in reads].count("overloaded") == 1


async def test_a_caller_that_leaves_while_it_waits_takes_no_place_with_it() -> None:
    guard, end = overload(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(served(guard, Cost.JOIN, end))
        await asyncio.sleep(0)
        gone = [tasks.create_task(served(guard, Cost.JOIN, end)) for _ in range(10)]
        await asyncio.sleep(0)
        for number, task in enumerate(gone):
            if number == 5:
                end.set()
                await asyncio.sleep(0)
            task.cancel()
    assert (guard.waiting, guard._in_work) == (0, 0)


def test_each_tenant_has_its_own_budget() -> None:
    guard = overload(tenant_rate=5)
    for _ in range(10):
        guard.charge("acme", Cost.JOIN)
    with pytest.raises(TooManyRequestsError) as caught:
        guard.charge("acme", Cost.JOIN)
    assert caught.value.status == 429
    assert caught.value.retry_after_s >= 1
    guard.charge("other", Cost.JOIN)


def test_refusals_are_spread_over_time() -> None:
    dice = iter([0.0] + [n / 100 for n in range(100) for _ in range(2)])
    guard = Overload(CollectorRegistry(), dice=lambda: next(dice))
    guard.pressure = LATE
    told = set()
    for _ in range(99):
        with pytest.raises(UnavailableError) as caught:
            guard.check(Cost.REPEAT)
        told.add(caught.value.retry_after_s)
    assert told == set(range(RETRY_AFTER_S[0], RETRY_AFTER_S[1] + 1))


async def test_a_loop_that_works_is_seen_to_be_late_and_busy() -> None:
    guard = overload()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(guard.run())
        until = time.monotonic() + 10.0
        while time.monotonic() < until and min(guard.pressure.lag_s, guard.pressure.cpu) < 0.1:
            busy = time.monotonic() + 0.2
            while time.monotonic() < busy:
                pass
            await asyncio.sleep(0)
        assert guard.pressure.lag_s >= 0.1
        assert guard.pressure.cpu >= 0.1
        watching.cancel()


def test_the_number_of_series_is_fixed() -> None:
    registry = CollectorRegistry()
    guard = Overload(registry, dice=lambda: 0.5, tenant_rate=1)
    before = len(generate_latest(registry).splitlines())
    guard.pressure = LATE
    for number in range(1000):
        for cost in Cost:
            with pytest.raises(UnavailableError):
                guard.check(cost)
        guard.charge(f"tenant-{number}", Cost.JOIN)
    assert len(generate_latest(registry).splitlines()) == before


async def test_the_api_sheds_reads_first_and_repeats_last(
    tls_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shed: set[Cost] = set()
    monkeypatch.setattr(module, "shed_share", lambda _, cost: float(cost in shed))
    async with running(settings(tls_dir)) as api, relays(api, "eu-frankfurt"):
        assert (await api.join("r", "ana")).status == 201
        shed |= {Cost.READ, Cost.JOIN}
        for method, path, body in (
            ("GET", "/v1/rooms/r", None),
            ("GET", "/v1/rooms", None),
            ("GET", "/v1/rooms/r/participants/ana", None),
            ("GET", "/v1/rooms/r/participants/ana/decision", None),
            ("POST", "/v1/probe-plans", {}),
            ("POST", "/v1/decisions", {}),
        ):
            answer = await api.call(method, path, body)
            answer.problem(503, "overloaded")
            assert 1 <= int(answer.headers["Retry-After"]) <= 4
        (await api.join("r", "bob")).problem(503, "overloaded")
        assert (await api.join("r", "ana")).status == 200
        shed.add(Cost.REPEAT)
        (await api.join("r", "ana")).problem(503, "overloaded")
        (await api.call("DELETE", "/v1/rooms/r/participants/ana")).problem(503, "overloaded")
        for path in ("/healthz", "/readyz", "/v1/nodes"):
            assert (await api.call("GET", path)).status == 200, path
        metrics = (await api.call("GET", "/metrics")).text
    assert 'thalweg_requests_total{cost="join",outcome="shed"} 1.0' in metrics


async def test_a_tenant_beyond_its_rate_is_told_when_to_come_back(tls_dir: Path) -> None:
    async with running(settings(tls_dir, tenant_rate=1)) as api:
        answers = [await api.call("GET", "/v1/rooms") for _ in range(4)]
    assert [answer.status for answer in answers][:2] == [200, 200]
    answers[-1].problem(429, "tenant-rate")
    assert int(answers[-1].headers["Retry-After"]) >= 1


async def test_the_grpc_door_sheds_too(tls_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "shed_share", lambda _, cost: float(cost is not Cost.REPEAT))
    async with running(settings(tls_dir)) as api, api.channel() as channel:
        stub = allocator_pb2_grpc.AllocatorServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Join(
                allocator_pb2.JoinRequest(room="r", participant="p", session="s"),
                metadata=[("authorization", f"Bearer {KEY}")],
            )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (caught.value.details() or "").startswith("overloaded: ")

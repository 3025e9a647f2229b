"""Runs a whole local system as child processes: one control plane, one relay per region.

Rules of this file:

1. All children start at once; the relays find the control plane by trying again, as they do in production.
2. Ready means: the control plane says so, and every region has a node that takes participants.
3. A child that dies before that is a failed start, with its last words. One that dies later is told about and left
   dead: the system around it has to cope, and showing that is what the demo is for.
4. However this process ends, no child is left (see tether.py for SIGKILL).
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from controlplane.cli.children import Child, LineHandler, end_children, start_child
from controlplane.cli.local_setup import LocalSetupError, SystemPlan

READY_WITHIN_S = 20.0
"""A start takes about three seconds; a machine that needs seven times as long is told about, not waited for."""
POLL_S = 0.05
REQUEST_TIMEOUT_S = 2.0
CONTROL_PLANE = "controlplane"

DeathHandler = Callable[[Child], None]


@dataclass(frozen=True, slots=True)
class LocalSystem:
    """A running local system."""

    plan: SystemPlan
    children: Mapping[str, Child]
    """By name: "controlplane", and each node's id."""
    ready_s: float
    """Seconds from the first child's start until everything was ready."""

    def kill(self, node: str) -> None:
        """End a node without warning, as a power cut would. Raises KeyError for an unknown one."""
        self.children[node].signal(signal.SIGKILL)


@asynccontextmanager
async def local_system(
    plan: SystemPlan, on_line: LineHandler, on_death: DeathHandler
) -> AsyncIterator[LocalSystem]:
    """Start the system, yield it when it is ready, end it.

    `on_line` gets every log line of the children, `on_death` each child that ends by itself after the start.
    Raises LocalSetupError when it does not get ready, naming the process at fault with its last log lines.
    """
    began = asyncio.get_running_loop().time()
    children: dict[str, Child] = {}
    ready = ending = False

    def hear(name: str, line: str, level: str) -> None:
        # While all of them end, each misses the others: only errors are news then.
        if not ending or level in ("error", "critical"):
            on_line(name, line, level)

    async def attend(child: Child) -> None:
        await child.follow(hear)
        if ready and not ending:
            on_death(child)

    try:
        async with asyncio.TaskGroup() as group:
            try:
                await _start(plan, children)
                for child in children.values():
                    group.create_task(attend(child))
                await _wait_ready(plan, children)
                ready = True
                yield LocalSystem(plan, children, asyncio.get_running_loop().time() - began)
            finally:
                ending = True
                await asyncio.shield(end_children(list(children.values())))
    except BaseExceptionGroup as failed:
        # What the caller of this context raised is its own business: hand it back as it was.
        if len(failed.exceptions) == 1:
            raise failed.exceptions[0] from failed.exceptions[0].__cause__
        raise


async def _start(plan: SystemPlan, children: dict[str, Child]) -> None:
    arguments = plan.control_plane_arguments()
    children[CONTROL_PLANE] = await start_child(CONTROL_PLANE, "controlplane", arguments)
    for node in plan.nodes:
        children[node.id] = await start_child(node.id, "relay", plan.relay_arguments(node))


async def _wait_ready(plan: SystemPlan, children: Mapping[str, Child]) -> None:
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {plan.api_key}"}
    why = "nothing answered"
    try:
        async with (
            asyncio.timeout(READY_WITHIN_S),
            aiohttp.ClientSession(plan.http_url, headers=headers, timeout=timeout) as http,
        ):
            while why := await _why_not_ready(plan, http):
                for child in children.values():
                    if child.ended:
                        raise LocalSetupError(
                            f"{child.name} {child.death()} during the start.{_last_words([child])}"
                        )
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise LocalSetupError(
            f"not ready after {READY_WITHIN_S:.0f} s: {why}.{_last_words(list(children.values()))}"
        ) from None


async def _why_not_ready(plan: SystemPlan, http: aiohttp.ClientSession) -> str:
    """Return what is missing, or "" when everything is ready."""
    try:
        async with http.get("/readyz") as response:
            if response.status != 200:
                return f"{CONTROL_PLANE} answers {response.status} to /readyz"
        async with http.get("/v1/nodes") as response:
            if response.status != 200:
                return f"{CONTROL_PLANE} answers {response.status} to /v1/nodes"
            known = {node["id"]: node for node in (await response.json())["nodes"]}
    except (aiohttp.ClientError, TimeoutError):
        return f"{CONTROL_PLANE} does not answer on {plan.http_url}"
    waiting = [
        f"{node.id} is {known[node.id]['state']}" if node.id in known else f"{node.id} is unknown"
        for node in plan.nodes
        if node.id not in known or known[node.id]["state"] != "serving"
    ]
    return ", ".join(waiting)


def _last_words(children: list[Child]) -> str:
    spoken = [f"\n{child.name}:\n  " + "\n  ".join(child.tail) for child in children if child.tail]
    return " Last log lines:" + "".join(spoken) if spoken else " It logged nothing."

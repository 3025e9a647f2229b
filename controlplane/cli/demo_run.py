"""One run of the headless demo: who takes part, what has to be seen, and the fail-over."""

import asyncio
import copy
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controlplane.cli.demo_api import DemoApi, DemoError
from controlplane.cli.demo_client import Participant, stay_on_loopback
from controlplane.cli.demo_report import Failover, ParticipantReport, Report
from controlplane.cli.demo_stun import contain_stun_errors
from controlplane.cli.demo_tally import Received
from controlplane.cli.local_topology import pretended_probes
from controlplane.core.model import Topology

NAMES = ("ana", "ben", "chi")
"""One participant per region, three at most: each encodes and decodes in this process."""
FIRST_FRAMES_WITHIN_S = 20.0
FAILOVER_LIMIT_S = 5.0
"""A fail-over that takes longer has failed: a pause that people still sit out."""
FAILOVER_GIVE_UP_S = 15.0
POLL_S = 0.05


class DemoRun:
    """Puts the participants into a room of their own, and watches what they decode."""

    def __init__(
        self, api: DemoApi, topology: Topology, seconds: float, progress: Callable[[str], None]
    ) -> None:
        places = [str(region) for region in topology.regions][: len(NAMES)]
        if len(places) < 2:
            raise DemoError("the topology has one region: a cascade needs two")
        self._api = api
        self._seconds = seconds
        self._progress = progress
        self._room = f"demo-{secrets.token_hex(4)}"
        self._people = [
            Participant(
                id=name,
                place=place,
                look=look,
                room=self._room,
                session=secrets.token_hex(8),
                probes=pretended_probes(topology, place),
            )
            for look, (name, place) in enumerate(zip(NAMES, places, strict=False))
        ]
        self._victim: Participant | None = None

    async def report(self, kill: Callable[[str], None] | None) -> Report:
        """Run the call; with `kill`, kill a node in the middle of it. Raises DemoError when there is no call."""
        contain_stun_errors()
        stay_on_loopback(await self._api.node_urls())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._follow_events())]
                tasks += [
                    group.create_task(person.take_part(self._api, self._seated))
                    for person in self._people
                ]
                report = await self._watch(kill)
                for task in tasks:
                    task.cancel()
        except* DemoError as failed:
            raise DemoError(str(failed.exceptions[0])) from failed
        return report

    async def _watch(self, kill: Callable[[str], None] | None) -> Report:
        missing = await self._until_all_decode(FIRST_FRAMES_WITHIN_S, "joining")
        if not missing:
            self._progress(f"everybody decodes everybody; counting for {self._seconds:g} s")
            await asyncio.sleep(self._seconds)
            missing = self._missing()
        problems = [missing] if missing else []
        problems += [
            f"{person.id}: {detours}"
            for person in self._people
            if (detours := person.tally.detours(self._others(person)))
        ]
        participants = [self._report_of(person) for person in self._people]
        links = await self._api.links(self._room)
        failover = None
        if kill and not problems:
            failover = await self._fail_over(kill)
            problems += _failover_problems(failover, self._missing())
        return Report(problems, participants, links, failover)

    async def _fail_over(self, kill: Callable[[str], None]) -> Failover:
        victim = self._victim = self._people[0]
        seat = victim.seat
        if seat is None:
            raise DemoError(f"{victim.id} lost its seat before the kill: {victim.trouble}")
        began = asyncio.get_running_loop().time()
        kill(seat.node)
        for person in self._people:
            person.tally.forget()
        missing = await self._until_all_decode(FAILOVER_GIVE_UP_S, f"killed {seat.node}")
        took = asyncio.get_running_loop().time() - began
        return Failover(
            killed_node=seat.node,
            participant=victim.id,
            to=victim.seat.node if victim.seat else None,
            seconds_until_all_decode=None if missing else round(took, 2),
        )

    def _seated(self, person: Participant) -> None:
        """Count a fail-over's victim anew: what came from its old seat proves nothing about the new one."""
        if person is self._victim:
            for other in self._people:
                other.tally.forget(person.id)

    async def _follow_events(self) -> None:
        by_id = {person.id: person for person in self._people}
        async for kind, data in self._api.events(self._room):
            if kind == "participant.moved" and (person := by_id.get(data["participant"])):
                person.note_moved(data["epoch"])

    async def _until_all_decode(self, limit_s: float, doing: str) -> str:
        """Wait until everybody decodes everybody; return "", or what is missing when the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        while (missing := self._missing()) and loop.time() < until:
            self._progress(f"{doing}: {missing}")
            await asyncio.sleep(POLL_S)
        return missing

    def _missing(self) -> str:
        waits = []
        for person in self._people:
            missing = person.tally.missing(self._others(person))
            if person.seat is None:
                waits.append(f"{person.id} has no call ({person.trouble})")
            elif missing:
                waits.append(f"{person.id} has not decoded {missing}")
        return "; ".join(waits)

    def _others(self, person: Participant) -> list[str]:
        return [other.id for other in self._people if other is not person]

    def _report_of(self, person: Participant) -> ParticipantReport:
        seat = person.seat
        decision: Mapping[str, Any] = seat.decision if seat else {"because": [person.trouble]}
        return ParticipantReport(
            id=person.id,
            place=person.place,
            node=seat.node if seat else "",
            region=seat.region if seat else "",
            decision=decision,
            received={
                peer: copy.deepcopy(person.tally.by_peer.get(peer, Received()))
                for peer in self._others(person)
            },
        )


def _failover_problems(failover: Failover, missing: str) -> Sequence[str]:
    took = failover.seconds_until_all_decode
    if took is None:
        return [f"{FAILOVER_GIVE_UP_S:.0f} s after the kill of {failover.killed_node}: {missing}"]
    if took > FAILOVER_LIMIT_S:
        return [f"the fail-over took {took:.1f} s, more than {FAILOVER_LIMIT_S:.0f} s"]
    return []

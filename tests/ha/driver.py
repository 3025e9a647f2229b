"""A signalling server under load: joins at a steady rate, whatever happens to the servers that it asks.

It does what a careful one would do: each join goes to one replica, and to the next one when that does not answer. What
it was told is kept, to be held against what is true afterwards.
"""

import asyncio
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

ANSWER_WITHIN_S = 1.0
"""What every join is promised, at all times, while one replica lives."""

AGAIN_S = 0.1
"""After a refusal: a node that has just changed its replica takes people again after its first report."""

PATIENCE = aiohttp.ClientTimeout(total=0.7, sock_connect=0.3)
"""Of one try: longer than an operation of Redis may take (0.5 s), and short enough for another try in time."""


@dataclass(frozen=True)
class Told:
    """One answer."""

    room: str
    participant: str
    node: str
    epoch: int
    created: bool
    """The answer's status was 201: not something that was there already."""
    degraded: bool
    at: float
    """Seconds since the driver began."""
    took_s: float
    tries: int


@dataclass
class Driver:
    """Makes `rate` joins a second in rooms of `room_size` until it is told to stop."""

    urls: Sequence[str]
    key: str
    rate: int = 500
    room_size: int = 8
    prefix: str = ""
    """Of its participants, should another driver fill the same rooms."""
    told: list[Told] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    began: float = 0.0
    is_told_to_stop: bool = False

    async def run(self, session: aiohttp.ClientSession, seconds: float) -> None:
        """Join at an even pace (an open loop: slow answers do not slow the questions), then wait for the answers.

        It ends sooner when it is told to stop.
        """
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * self.rate)):
                await asyncio.sleep(self.began + number / self.rate - time.monotonic())
                if self.is_told_to_stop:
                    break
                group.create_task(self._join(session, number))

    async def _join(self, session: aiohttp.ClientSession, number: int) -> None:
        room, who = f"room-{number // self.room_size}", f"{self.prefix}p-{number}"
        begun = time.monotonic()
        problem = ""
        for attempt in range(2 * len(self.urls)):
            url = self.urls[(number + attempt) % len(self.urls)]
            try:
                answer = await self.put(session, url, room, who)
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = repr(error)
                continue
            if "node" in answer:
                now = time.monotonic()
                self.told.append(
                    Told(
                        room,
                        who,
                        answer["node"]["id"],
                        answer["epoch"],
                        answer["created"],
                        answer["degraded"],
                        now - self.began,
                        now - begun,
                        attempt + 1,
                    )
                )
                return
            problem = str(answer)
            await asyncio.sleep(AGAIN_S)
        self.failed.append(f"{room}/{who} at {begun - self.began:.2f}: {problem}")

    async def put(
        self, session: aiohttp.ClientSession, url: str, room: str, who: str
    ) -> Mapping[str, Any]:
        """Join once, at one replica. Raises ClientError or TimeoutError when it does not answer in time."""
        async with session.put(
            f"{url}/v1/rooms/{room}/participants/{who}",
            json={"session": f"of-{who}"},
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=PATIENCE,
        ) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
            return answer | {"created": response.status == 201}

    def conflicts(self) -> list[str]:
        """Return participants who were told two places with one epoch; there must be none."""
        places: dict[tuple[str, str, int], set[str]] = defaultdict(set)
        for one in self.told:
            places[one.room, one.participant, one.epoch].add(one.node)
        return [f"{key}: {sorted(nodes)}" for key, nodes in places.items() if len(nodes) > 1]

    def stop(self) -> None:
        """Ask nothing new; `run` ends with the answers to what was asked."""
        self.is_told_to_stop = True

    def slowest_s(self) -> float:
        """Return how long the slowest answer took, retries at the other replica included."""
        return max(one.took_s for one in self.told)

    def degraded_span(self) -> tuple[float, float] | None:
        """Return when the first and the last degraded answer came, None if there was none."""
        times = [one.at for one in self.told if one.degraded]
        return (min(times), max(times)) if times else None


async def main(out: str, key: str, rate: str, seconds: str, prefix: str, *urls: str) -> None:
    """Drive as a process of its own, until SIGTERM at the latest; the arguments are those of the command line."""
    driver = Driver(urls, key, rate=int(rate), prefix=prefix)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driver.stop)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await driver.run(session, float(seconds))
    found = {
        "began": driver.began,
        "told": [asdict(one) for one in driver.told],
        "failed": driver.failed,
    }
    await asyncio.to_thread(Path(out).write_text, json.dumps(found), "utf-8")


def read(path: Path) -> Driver:
    """Return a driver as another process left it. `began` is of the machine's monotonic clock, and means the same."""
    found = json.loads(path.read_text("utf-8"))
    told = [Told(**one) for one in found["told"]]
    return Driver((), "", told=told, failed=found["failed"], began=found["began"])


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))

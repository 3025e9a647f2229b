"""A UDP proxy on loopback that loses and delays datagrams: the impaired path of the tests.

Each client address gets one socket towards the target, as behind a NAT, so that the target sees them apart.
Each direction has its own seeded dice: the n-th datagram of a direction meets the same fate in every run.
"""

import asyncio
import random
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

HOST = "127.0.0.1"
MAX_CLIENTS = 64
"""The client that was silent longest gives way to a new one beyond this."""
MAX_IN_FLIGHT = 4096
"""Datagrams that are being delayed at a time; further ones are lost, as in a full queue."""
BATCH = 64
"""Datagrams read per wake-up of a socket, so that a flood on one does not starve the loop."""

Address = tuple[str, int]
Send = Callable[[bytes], object]


@dataclass(slots=True)
class Counts:
    """What became of the datagrams of one direction."""

    passed: int = 0
    lost: int = 0


class LossyUdp:
    """The proxy, as an asynchronous context manager. `loss` may be changed while it runs.

    `loss` is the probability of losing a datagram, for each direction; `delay_s` is added to each direction.
    """

    def __init__(
        self, target: Address, *, loss: float, delay_s: float = 0.0, seed: int = 1
    ) -> None:
        self.loss = loss
        self.delay_s = delay_s
        self.up = Counts()
        """From clients to the target."""
        self.down = Counts()
        """From the target to clients."""
        self._target = target
        self._up_dice = random.Random(seed)  # noqa: S311 - dice that nobody gains from guessing
        self._down_dice = random.Random(seed + 1)  # noqa: S311
        self._in_flight = 0
        self._upstreams: OrderedDict[Address, socket.socket] = OrderedDict()
        self._front = _udp_socket()
        self._front.bind((HOST, 0))

    @property
    def address(self) -> Address:
        """Where clients send to."""
        host, port = self._front.getsockname()
        return host, port

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._front, self._from_clients)
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._upstreams:
            self._forget_oldest()
        asyncio.get_running_loop().remove_reader(self._front)
        self._front.close()

    def _from_clients(self) -> None:
        for _ in range(BATCH):
            try:
                data, client = self._front.recvfrom(65_535)
            except BlockingIOError:
                return
            self._forward(self.up, self._up_dice, self._upstream(client).send, data)

    def _from_target(self, upstream: socket.socket, client: Address) -> None:
        for _ in range(BATCH):
            try:
                data = upstream.recv(65_535)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # ICMP: nobody listens at the target now
                continue
            self._forward(
                self.down, self._down_dice, lambda data: self._front.sendto(data, client), data
            )

    def _upstream(self, client: Address) -> socket.socket:
        if client not in self._upstreams:
            if len(self._upstreams) >= MAX_CLIENTS:
                self._forget_oldest()
            upstream = self._upstreams[client] = _udp_socket()
            upstream.connect(self._target)
            loop = asyncio.get_running_loop()
            loop.add_reader(upstream, self._from_target, upstream, client)
        self._upstreams.move_to_end(client)
        return self._upstreams[client]

    def _forget_oldest(self) -> None:
        _, upstream = self._upstreams.popitem(last=False)
        asyncio.get_running_loop().remove_reader(upstream)
        upstream.close()

    def _forward(self, counts: Counts, dice: random.Random, send: Send, data: bytes) -> None:
        if dice.random() < self.loss or self._in_flight >= MAX_IN_FLIGHT:
            counts.lost += 1
        elif self.delay_s:
            self._in_flight += 1
            asyncio.get_running_loop().call_later(self.delay_s, self._arrive, counts, send, data)
        else:
            self._deliver(counts, send, data)

    def _arrive(self, counts: Counts, send: Send, data: bytes) -> None:
        self._in_flight -= 1
        self._deliver(counts, send, data)

    @staticmethod
    def _deliver(counts: Counts, send: Send, data: bytes) -> None:
        try:
            send(data)
        except (
            OSError
        ):  # a full buffer, a closed socket, nobody at the other end: lost, as on a wire
            counts.lost += 1
        else:
            counts.passed += 1


def _udp_socket() -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    return udp

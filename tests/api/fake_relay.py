"""A node without media: it says hello, reports, and obeys snapshots, over real gRPC with mTLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from thalweg.v1 import common_pb2, node_pb2, node_pb2_grpc

from controlplane.adapters.ca import Bundle
from tests.api.harness import KEY, Api, issue
from tests.fakes.waiting import eventually

REPORT_EVERY_S = 0.1


class FakeRelay:
    """One session; what it reports can be changed at any time."""

    def __init__(self, node: str, region: str, capacity: int = 10) -> None:
        self.node = node
        self.capacity = capacity
        self.region = region
        self.snapshots: list[node_pb2.Snapshot] = []
        self.participants: list[node_pb2.ParticipantReport] = []
        self.refusal = ""
        """Error of every answer to a snapshot: NACKs instead of ACKs."""
        self.ended: tuple[grpc.StatusCode, str] | None = None
        """How the control plane ended the session."""

    def hello(self, **changes: Any) -> node_pb2.SessionRequest:
        members: dict[str, Any] = {
            "node": self.node,
            "region": self.region,
            "http_url": f"http://{self.node}.example.net",
            "media": common_pb2.UdpEndpoint(host="192.0.2.1", port=5000),
            "trunk_target": f"{self.node}.example.net:7000",
            "capacity": self.capacity,
            "version": "test",
            "engine": "embedded",
        }
        return node_pb2.SessionRequest(hello=node_pb2.Hello(**(members | changes)))

    async def live(self, channel: grpc.aio.Channel) -> None:
        call = node_pb2_grpc.NodeServiceStub(channel).Session()
        await call.write(self.hello())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._report(call))
                async for response in call:
                    if not response.HasField("snapshot"):
                        continue
                    self.snapshots.append(response.snapshot)
                    result = node_pb2.SnapshotResult(
                        version=response.snapshot.version,
                        nonce=response.snapshot.nonce,
                        error=self.refusal,
                    )
                    await call.write(node_pb2.SessionRequest(result=result))
        except* (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call ended while it was read from, or written to
        self.ended = (await call.code(), await call.details() or "")

    async def _report(self, call: Any) -> None:
        sequence = 0
        while True:
            sequence += 1
            roster = node_pb2.Roster(participants=self.participants).SerializeToString()
            report = node_pb2.Report(sequence=sequence, load=0.1, roster=roster)
            await call.write(node_pb2.SessionRequest(report=report))
            await asyncio.sleep(REPORT_EVERY_S)


def certificate(node: str, region: str) -> Bundle:
    return issue(f"spiffe://thalweg/region/{region}/node/{node}")


@asynccontextmanager
async def relays(
    api: Api, *places: str, key: str = KEY, capacity: int = 10
) -> AsyncIterator[list[FakeRelay]]:
    """Run one node in each of the regions, and wait until all of them serve."""
    nodes = [FakeRelay(f"{region}-1", region, capacity) for region in places]
    async with asyncio.TaskGroup() as group:
        channels = [api.channel(certificate(node.node, node.region)) for node in nodes]
        tasks = [
            group.create_task(node.live(channel))
            for node, channel in zip(nodes, channels, strict=True)
        ]
        try:

            async def all_serve() -> str | None:
                listed = (await api.call("GET", "/v1/nodes", key=key)).json["nodes"]
                states = {one["id"]: one["state"] for one in listed}
                missing = [node.node for node in nodes if states.get(node.node) != "serving"]
                return f"{missing} do not serve: {states}" if missing else None

            await eventually(all_serve)
            yield nodes
        finally:
            for task in tasks:
                task.cancel()
            for channel in channels:
                await channel.close()

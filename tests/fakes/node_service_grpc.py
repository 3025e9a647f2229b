"""A control plane's NodeService that says what a test wants and keeps what the node says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
from grpc.aio import ServicerContext
from thalweg.v1 import node_pb2, node_pb2_grpc

from tests.fakes.trunk_node import HOST, tls_files

Context = ServicerContext[node_pb2.SessionRequest, node_pb2.SessionResponse]


class FakeNodeService(node_pb2_grpc.NodeServiceServicer):
    """A replica with one session at a time."""

    def __init__(self) -> None:
        self.standbys: list[node_pb2.Standby] = []
        self.hellos: list[node_pb2.Hello] = []
        self.reports: list[node_pb2.Report] = []
        self.results: list[node_pb2.SnapshotResult] = []
        self.port = 0
        self.refusal = ""
        """How to refuse whoever stands by; empty to welcome them."""
        self.sessions = 0
        """That are open."""
        self._outgoing: asyncio.Queue[node_pb2.SessionResponse | None] = asyncio.Queue()

    @property
    def target(self) -> str:
        """Where it is, as host:port."""
        return f"{HOST}:{self.port}"

    def send(self, snapshot: node_pb2.Snapshot) -> None:
        """Send a snapshot in the session that is open, or the next one."""
        self._outgoing.put_nowait(node_pb2.SessionResponse(snapshot=snapshot))

    def say(self, *, ending: bool = False) -> None:
        """Give a sign of life, or say that this is the end."""
        self._outgoing.put_nowait(node_pb2.SessionResponse(ending=ending))

    def hang_up(self) -> None:
        """End the session."""
        self._outgoing.put_nowait(None)

    def answered(self, nonce: str) -> Callable[[], str | None]:
        """Return a check that waits for the answer to a snapshot."""
        return lambda: None if any(r.nonce == nonce for r in self.results) else f"no {nonce}"

    async def Session(self, _requests: object, context: Context) -> None:  # type: ignore[override]
        """Take what the node says, and say what the test wants."""
        self.sessions += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(context))
                while (response := await self._outgoing.get()) is not None:
                    await context.write(response)
                reader.cancel()
        finally:
            self.sessions -= 1
        if self.refusal:
            await context.abort(grpc.StatusCode.ABORTED, self.refusal)

    async def _read(self, context: Context) -> None:
        while isinstance(request := await context.read(), node_pb2.SessionRequest):
            match request.WhichOneof("body"):
                case "hello":
                    self.hellos.append(request.hello)
                case "standby":
                    self.standbys.append(request.standby)
                    if self.refusal:
                        self.hang_up()
                    else:
                        self.say()
                case "report":
                    self.reports.append(request.report)
                case "result":
                    self.results.append(request.result)
                case _:
                    raise AssertionError("a request without a body")

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["FakeNodeService"]:
        """Serve inside the block, with a control plane's certificate."""
        server = grpc.aio.server()
        node_pb2_grpc.add_NodeServiceServicer_to_server(self, server)
        credentials = tls_files("controlplane/one").server_credentials()
        self.port = server.add_secure_port(f"{HOST}:{port}", credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)

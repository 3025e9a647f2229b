"""A node as a process of its own, without a control plane: it starts from a snapshot on disk."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from thalweg.v1 import node_pb2

from relay.api.snapshot import SnapshotFile
from relay.api.state import NodeState
from tests.fakes.trunk_node import HOST, REGION, node_tls
from tests.fakes.waiting import eventually
from tests.relay.rtc import Signer

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class RelayProcess:
    """What tests ask of it; also what tests.relay.rtc.Client needs of a node."""

    pid: int
    url: str
    signer: Signer
    state: NodeState
    log: Path
    """Its stderr."""

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def udp_ports(self) -> list[int]:
        """Return every UDP port that it has open."""
        links = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                links.append(str(link.readlink()))
            except FileNotFoundError:  # closed meanwhile
                continue
        inodes = {match[1] for one in links if (match := re.fullmatch(r"socket:\[(\d+)\]", one))}
        rows = Path("/proc/net/udp").read_text().splitlines()[1:]
        cells = [row.split() for row in rows]
        return sorted({int(one[1].partition(":")[2], 16) for one in cells if one[9] in inodes})


@asynccontextmanager
async def relay_process(directory: Path, *flags: str) -> AsyncIterator[RelayProcess]:
    """Run a node for the time of the block; `flags` come on top, such as --log-level debug."""
    signer = Signer()
    await asyncio.to_thread(_prepare, directory, signer)
    log = directory / "log"
    command = [
        sys.executable, "-m", "relay", "--node", "a", "--region", REGION,
        "--http", f"{HOST}:0", "--media", f"{HOST}:0", "--trunk-grpc", f"{HOST}:0",
        "--trunk-udp", f"{HOST}:0", "--control-plane", f"{HOST}:9",
        "--tls-dir", str(directory / "tls"), "--state-dir", str(directory / "state"), *flags,
    ]  # fmt: skip
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stderr=errors, cwd=ROOT)
    try:
        await eventually(
            lambda: None if _url(log) else f"not ready: {log.read_text()}", START_WITHIN_S
        )
        yield RelayProcess(process.pid, _url(log), signer, NodeState("a", 10), log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 10)


def _prepare(directory: Path, signer: Signer) -> None:
    (directory / "tls").mkdir()
    for name in ("ca", "cert", "key"):
        (directory / "tls" / f"{name}.pem").write_bytes(getattr(node_tls("a"), name))
    key = node_pb2.PublicKey(kid="k1", ed25519=signer.public)
    kept = node_pb2.Snapshot(version=1, token_keys=[key])
    SnapshotFile(directory / "state").write(kept.SerializeToString())


def _url(log: Path) -> str:
    for line in log.read_text().splitlines():
        if line.startswith("{") and (entry := json.loads(line)).get("event") == "node serves":
            return str(entry["http"])
    return ""

"""What `thalweg up` prepares before it starts anything: ports, keys, certificates, command lines.

Everything is for one machine and one run: the addresses are on loopback and the secrets end with the process.
"""

import hashlib
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.adapters.ca import CertificateAuthority, write_private
from controlplane.adapters.geoip import demo_database

HOST = "127.0.0.1"
LIFETIME = timedelta(days=30)
"""Of the throw-away certificates: longer than anybody leaves a demo running, far from for ever."""
PORT_RANGE = range(20_000, 32_000)
"""Where free ports are looked for. Below Linux's ephemeral range (32768 and up), so that no outgoing connection of
another process can take a port between its choice here and its use by a child."""
PORT_TRIES = 200


class LocalSetupError(Exception):
    """Something on this machine stands in the way; the message says what, and what to do."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One relay process to be: its name and its ports on loopback."""

    id: str
    region: str
    http: int
    media: int
    """UDP: everything between clients and the node."""
    trunk_grpc: int
    trunk_udp: int


@dataclass(frozen=True, slots=True)
class SystemPlan:
    """One local system to be."""

    topology: Path
    state_dir: Path
    api_key: str
    http: int
    grpc: int
    nodes: tuple[NodePlan, ...]
    geoip: Path | None
    """The demo's GeoIP database, if its package is installed."""

    @property
    def http_url(self) -> str:
        """Where the control plane's API will be."""
        return f"http://{HOST}:{self.http}"

    def control_plane_arguments(self) -> list[str]:
        """Return what follows `python -m controlplane`."""
        return [
            "serve",
            *("--topology", str(self.topology)),
            *("--http", f"{HOST}:{self.http}"),
            *("--grpc", f"{HOST}:{self.grpc}"),
            *("--tls-dir", str(self.state_dir / "tls" / "controlplane")),
            *("--api-key-file", str(self.state_dir / "api-keys")),
            *("--signing-key", str(self.state_dir / "signing-key.pem")),
            "--declared-rtts",
            *(("--geoip", str(self.geoip)) if self.geoip else ()),
        ]

    def relay_arguments(self, node: NodePlan) -> list[str]:
        """Return what follows `python -m relay`."""
        return [
            *("--node", node.id),
            *("--region", node.region),
            *("--http", f"{HOST}:{node.http}"),
            *("--media", f"{HOST}:{node.media}"),
            *("--trunk-grpc", f"{HOST}:{node.trunk_grpc}"),
            *("--trunk-udp", f"{HOST}:{node.trunk_udp}"),
            *("--control-plane", f"{HOST}:{self.grpc}"),
            *("--tls-dir", str(self.state_dir / "tls" / node.id)),
            *("--state-dir", str(self.state_dir / "nodes" / node.id)),
        ]


def plan_system(
    topology: Path, regions: Sequence[str], state_dir: Path, http_port: int
) -> SystemPlan:
    """Give every process of the system its name and its ports. Raises LocalSetupError when ports run out."""
    taken = {http_port}
    nodes = tuple(
        NodePlan(
            id=f"{region[:61]}-1",
            region=region,
            http=free_port(taken),
            media=free_port(taken),
            trunk_grpc=free_port(taken),
            trunk_udp=free_port(taken),
        )
        for region in regions
    )
    return SystemPlan(
        topology=topology,
        state_dir=state_dir,
        api_key=f"dev-{secrets.token_urlsafe(18)}",
        http=http_port,
        grpc=free_port(taken),
        nodes=nodes,
        geoip=demo_database(),
    )


def write_secrets(plan: SystemPlan, *, now: datetime) -> None:
    """Write certificates, the hash of the API key and the signing key below the state directory. Raises OSError."""
    authority = CertificateAuthority.create("thalweg up", now=now, lifetime=LIFETIME)

    def issue(path: str, directory: str) -> None:
        authority.issue(
            f"spiffe://thalweg/{path}",
            dns_names=["localhost"],
            ip_addresses=[HOST, "::1"],
            now=now,
            lifetime=LIFETIME,
        ).write(plan.state_dir / "tls" / directory)

    issue("controlplane/up", "controlplane")
    issue("client/dev", "client")
    for node in plan.nodes:
        issue(f"region/{node.region}/node/{node.id}", node.id)
        (plan.state_dir / "nodes" / node.id).mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256(plan.api_key.encode()).hexdigest()
    write_private(plan.state_dir / "api-keys", f"dev:{digest}\n".encode())
    write_private(
        plan.state_dir / "signing-key.pem",
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def utc(timestamp: float) -> datetime:
    """Turn seconds since 1970 into what certificates are dated with."""
    return datetime.fromtimestamp(timestamp, UTC)


def choose_port(asked: int | None, usual: int) -> int:
    """Return the asked port, else the usual one, else (that one being taken) any free one.

    Raises LocalSetupError when a port was asked for and is taken.
    """
    if asked:
        if not is_free(asked):
            raise LocalSetupError(
                f"port {asked} on {HOST} is in use: end what listens there, or give another number"
            )
        return asked
    return usual if asked is None and is_free(usual) else free_port(set())


def free_port(taken: set[int]) -> int:
    """Return a port that is free for TCP and UDP and not in `taken`, to which it is added."""
    for _ in range(PORT_TRIES):
        port = PORT_RANGE.start + secrets.randbelow(len(PORT_RANGE))
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise LocalSetupError(
        f"found no free port on {HOST} between {PORT_RANGE.start} and {PORT_RANGE.stop - 1}"
    )


def is_free(port: int) -> bool:
    """Try to bind the port on loopback, for TCP and for UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:  # as servers do: a port in TIME_WAIT counts as free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True

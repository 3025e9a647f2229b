"""What a TURN server has to know, and what the command line says of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Secret:
    """A shared secret of the region's TURN servers and the control plane."""

    value: str = field(repr=False)
    not_after: int
    """Seconds since 1970; no credential that it signed is good after this."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A TURN server of the region, as clients are told of it."""

    host: str
    port: int
    """UDP and TCP."""
    tls_port: int


@dataclass(frozen=True, slots=True)
class TurnOrders:
    """The part of a snapshot that is for the TURN server."""

    realm: str
    secrets: tuple[Secret, ...]
    peers: tuple[str, ...]
    """IP addresses that it may relay to: those of the region's nodes."""
    listeners: tuple[Listener, ...]
    """The region's, in the topology's order."""
    transports: frozenset[str]
    """What clients are offered of "udp", "tcp", "tls"."""


class TurnMode(StrEnum):
    """What the node does for a TURN server."""

    RUN = "run"
    """Runs coturn as a child, which ends with it."""
    FILES = "files"
    """Only keeps the files of a coturn that somebody else runs."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """What the command line says."""

    mode: TurnMode
    directory: Path
    """Absolute; turnserver.conf and its database are in it."""
    host: str
    """Which of the region's servers this is, as the topology names it; empty when it has one only."""
    listen: tuple[str, ...]
    """Addresses of this machine, at least one; clients come to them and relayed packets leave from them."""
    external: tuple[str, ...]
    """What a 1:1 NAT makes of them: PUBLIC, or PUBLIC/PRIVATE."""
    ports: tuple[int, int]
    """First and last UDP port of relayed addresses."""
    cert: Path | None
    """Certificate chain in PEM for the TLS listener; None for no such listener."""
    key: Path | None

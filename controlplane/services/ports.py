"""What the services need of the outside, as protocols; app.py plugs in the adapters."""

from collections.abc import Mapping
from typing import Protocol

from controlplane.core.enrolment import Issued, SigningRequest
from controlplane.core.model import Location, NodeId
from controlplane.core.turn import TurnMasters


class Clock(Protocol):
    """Time. Decisions never see the clock, only the number it gave."""

    def now(self) -> float:
        """Return seconds since 1970."""
        ...


class GeoLocator(Protocol):
    """Where an address is."""

    def locate(self, address: str) -> Location | None:
        """Return the place of an IP address, or None if it is private, unknown or malformed. Never raises."""
        ...


class TokenSigner(Protocol):
    """Signs participant tokens."""

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return a compact JWS (RFC 7515) with EdDSA and a `kid` header."""
        ...

    def public_keys(self) -> Mapping[str, bytes]:
        """Return kid → raw Ed25519 public key, for the nodes."""
        ...


class TurnKeeper(Protocol):
    """Knows what TURN credentials are made of."""

    def masters(self) -> TurnMasters:
        """Return the master secrets as they are now."""
        ...


class CertificateIssuer(Protocol):
    """The built-in certificate authority."""

    def pin(self) -> str:
        """Return the hash of its key, by which nodes know it."""
        ...

    def read(self, csr_pem: str) -> SigningRequest:
        """Check a signing request. Raises InvalidInputError ("csr-invalid")."""
        ...

    def sign(self, request: SigningRequest, spiffe_id: str, *, now: float) -> Issued:
        """Sign a checked request for this identity."""
        ...


class FleetNotifier(Protocol):
    """Wakes the sessions of nodes whose desired state may have changed."""

    def wake(self, nodes: frozenset[NodeId]) -> None:
        """Ask for fresh snapshots to these nodes, soon. Level-triggered: losing a call costs time, not truth."""
        ...


class Gauge(Protocol):
    """A number for operators that goes up and down."""

    def set(self, value: float) -> None:
        """Say what it is now."""
        ...


class Counter(Protocol):
    """A number for operators that only grows."""

    def inc(self, amount: float = 1) -> None:
        """Count something."""
        ...

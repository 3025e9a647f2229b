"""EnrollmentService on a port of its own, and CertificateService beside the node's sessions.

The enrolment port asks for no certificate, so anybody who reaches it may try. What it spends on a stranger is bounded:
a budget for each address before anything is parsed, few calls at once, small messages, short connections.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import grpc
import structlog
from grpc.aio import ServicerContext
from thalweg.v1 import enrollment_pb2, enrollment_pb2_grpc

from controlplane.adapters.authority import Issuer
from controlplane.adapters.ca import CertificateAuthority
from controlplane.adapters.tls_files import TlsFiles
from controlplane.api.audit import Attempt
from controlplane.api.context import ApiContext
from controlplane.api.grpc_status import abort
from controlplane.api.identity import certificate_of, peer_of
from controlplane.core.addresses import parse_address
from controlplane.core.enrolment import Issued, parse_join_token
from controlplane.core.identity import Caller, Scope
from controlplane.core.model import NodeId, RegionId
from controlplane.errors import ControlPlaneError
from guard.buckets import AddressBuckets

PER_MINUTE = 30
BURST = 30
"""Of one address: a rack of new nodes behind one NAT enrols at once, a guesser of 256 bits gets nowhere."""

MAX_SOURCES = 10_000
"""Addresses whose attempts are counted, about 2 MB."""

MAX_CALLS = 32
"""At once. A call takes a millisecond or two."""

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 16 * 1024),
    ("grpc.max_concurrent_streams", 1),
    # Strangers' connections: whoever has opened so many keeps new nodes waiting, and nobody else.
    ("grpc.max_allowed_incoming_connections", 256),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 1_000),
)

LIFETIME = timedelta(hours=24)
"""Of the port's own certificate, which is made in memory and made again when half of it is over."""

log = structlog.get_logger(__name__)

_EnrollContext = ServicerContext[enrollment_pb2.EnrollRequest, enrollment_pb2.EnrollResponse]
_RenewContext = ServicerContext[enrollment_pb2.RenewRequest, enrollment_pb2.RenewResponse]


class EnrollmentDoor(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Serves EnrollmentService."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._attempts = AddressBuckets(PER_MINUTE / 60, BURST, MAX_SOURCES)

    async def Enroll(
        self, request: enrollment_pb2.EnrollRequest, context: _EnrollContext
    ) -> enrollment_pb2.EnrollResponse:
        """Sign a new node's key for a join token."""
        address = _address(context.peer())
        now = self._context.clock.now()
        if not self._attempts.passes(parse_address(address or ""), now):
            too_often = f"too-many-attempts: more than {PER_MINUTE} a minute from this address"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, too_often)
        token = parse_join_token(request.token)
        attempt = Attempt("node.enrol", Scope.ADMIN, address, token.id if token else "")
        caller = Caller(f"join token {token.id}", scopes=frozenset()) if token else None
        facts = {"node": request.node[:63], "region": request.region[:63]}
        try:
            issued = await self._context.enrolment.enrol(
                request.token,
                RegionId(request.region),
                NodeId(request.node),
                request.csr_pem,
                address=address,
            )
        except ControlPlaneError as error:
            # A stranger's: that the token is one of ours is all that it says, and nothing that is known.
            await self._context.audit.failed(attempt, None, error, facts)
            await abort(context, error)
        await self._context.audit.done(attempt, caller or Caller(""), facts)
        return enrollment_pb2.EnrollResponse(certificate=_certificate(issued))


class CertificateDoor(enrollment_pb2_grpc.CertificateServiceServicer):
    """Serves CertificateService; identity.py lets only nodes come here."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def Renew(
        self, request: enrollment_pb2.RenewRequest, context: _RenewContext
    ) -> enrollment_pb2.RenewResponse:
        """Sign another key for who the caller's certificate says it is."""
        auth = context.auth_context()
        peer = peer_of(auth)
        try:
            certificate = certificate_of(auth)
            issued = await self._context.enrolment.renew(
                RegionId(peer.region),
                NodeId(peer.name),
                request.csr_pem,
                dns_names=certificate.dns_names,
                ip_addresses=certificate.ip_addresses,
            )
        except ControlPlaneError as error:
            log.warning(
                "a certificate was not renewed", node=peer.name, code=error.code, why=error.detail
            )
            await abort(context, error)
        log.info("certificate renewed", node=peer.name, region=peer.region)
        return enrollment_pb2.RenewResponse(certificate=_certificate(issued))


class EnrollmentServer:
    """The enrolment port: TLS with our certificate and none of the caller's."""

    def __init__(self, context: ApiContext, credentials: grpc.ServerCredentials) -> None:
        self._server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        self._credentials = credentials
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
            EnrollmentDoor(context), self._server
        )

    async def start(self, address: str) -> int:
        """Listen on host:port and return the port. Raises OSError when that is not possible."""
        try:
            port: int = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        """End the calls in flight."""
        await self._server.stop(1.0)


class EnrollmentCertificate:
    """The enrolment port's own certificate: always by the newest authority, with the names of the process's own.

    Its chain ends with the authorities themselves, so that a node that trusts nobody yet can look for the one whose
    hash its token has.
    """

    def __init__(self, issuer: Issuer, tls: TlsFiles) -> None:
        self._issuer = issuer
        self._tls = tls
        self._authority: CertificateAuthority | None = None
        self._names: Sequence[str] = ()
        self._until = datetime.fromtimestamp(0, UTC)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that renew themselves."""
        first = self._newer()
        return grpc.dynamic_ssl_server_credentials(
            first,  # type: ignore[arg-type]  # the first time there is always one
            self._newer,  # type: ignore[arg-type]  # None is "as before"
            require_client_authentication=False,
        )

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        now = datetime.now(UTC)  # noqa: TID251 - gRPC's own thread asks, at each handshake
        authority, files = self._issuer.authority, self._tls.value
        names = (*files.dns_names, *files.ip_addresses)
        if authority is self._authority and names == self._names and now < self._until:
            return None
        bundle = authority.issue(
            "spiffe://thalweg/controlplane/enrolment",
            dns_names=files.dns_names,
            ip_addresses=files.ip_addresses,
            now=now,
            lifetime=LIFETIME,
        )
        self._authority, self._names, self._until = authority, names, now + LIFETIME / 2
        return grpc.ssl_server_certificate_configuration([(bundle.key, bundle.cert + bundle.ca)])


def _address(peer: str) -> str | None:
    """Return the address of gRPC's `ipv4:127.0.0.1:50000` or `ipv6:%5B::1%5D:50000`."""
    _, _, place = peer.partition(":")
    address = parse_address(unquote(place).rpartition(":")[0].strip("[]"))
    return None if address is None else str(address)


def _certificate(issued: Issued) -> enrollment_pb2.Certificate:
    return enrollment_pb2.Certificate(chain_pem=issued.chain_pem, ca_pem=issued.ca_pem)

"""Who is at the other end of an mTLS connection, and which methods that allows.

The SPIFFE ID of the certificate says who it is (X.509-SVID), and `RULES` who may call what: one table, looked at before
any handler. What a caller may say inside a method is that method's business: a node's hello has to name the node of
its certificate, the Allocator wants an API key too.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc
import structlog
from cryptography import x509

from controlplane.adapters.authority import alternative_names
from controlplane.api.grpc_status import abort
from controlplane.core.model import NodeId, RegionId
from controlplane.errors import ForbiddenError, UnauthenticatedError

SAN = "x509_subject_alternative_name"
"""gRPC's name for the subject alternative names in an auth context; URIs, DNS names and addresses mixed."""

CERTIFICATE = "x509_pem_cert"
"""gRPC's name for the caller's certificate in an auth context."""

AuthContext = Mapping[str, Iterable[bytes]]

log = structlog.get_logger(__name__)


class Role(Enum):
    """What a certificate makes its holder, by the path of its SPIFFE ID."""

    NODE = "region/REGION/node/NODE"
    CONTROL_PLANE = "controlplane/NAME"
    SIGNALLING = "signalling/NAME"
    CLIENT = "client/NAME"
    OTHER = "another"
    """Signed by our authority, and nobody that we know."""


ANYBODY = frozenset(Role)
CALLERS = frozenset({Role.SIGNALLING, Role.CLIENT})
NODES = frozenset({Role.NODE})

RULES: Mapping[str, frozenset[Role]] = {
    "/thalweg.v1.NodeService/Session": NODES,
    "/thalweg.v1.CertificateService/Renew": NODES,
    "/thalweg.v1.AllocatorService/Join": CALLERS,
    "/grpc.health.v1.Health/Check": ANYBODY,
    "/grpc.health.v1.Health/List": ANYBODY,
    "/grpc.health.v1.Health/Watch": ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
}
"""Method → who may call it; what is not in here may be called by nobody."""

_NODE = re.compile(r"spiffe://thalweg/region/(?P<region>[^/]+)/node/(?P<node>[^/]+)")
_NAMED = re.compile(r"spiffe://thalweg/(?P<kind>controlplane|signalling|client)/(?P<name>[^/]+)")
_KINDS = {
    "controlplane": Role.CONTROL_PLANE,
    "signalling": Role.SIGNALLING,
    "client": Role.CLIENT,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Who called."""

    role: Role
    name: str
    """Of the node, control plane, signalling server or client; the whole id of anybody else."""
    region: str = ""
    """Of a node."""


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a caller's certificate says beside its id."""

    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    ends_at: float
    """Seconds since 1970."""


def peer_of(auth_context: AuthContext) -> Peer:
    """Return whom a certificate names.

    A SPIFFE certificate carries exactly one URI (X.509-SVID, section 2); with several nothing is believed.
    """
    names = [name.decode(errors="replace") for name in auth_context.get(SAN, ())]
    uris = [name for name in names if "://" in name]
    if len(uris) != 1:
        return Peer(Role.OTHER, ", ".join(uris)[:200] or "no SPIFFE id")
    if match := _NODE.fullmatch(uris[0]):
        return Peer(Role.NODE, match["node"], match["region"])
    if match := _NAMED.fullmatch(uris[0]):
        return Peer(_KINDS[match["kind"]], match["name"])
    return Peer(Role.OTHER, uris[0][:200])


def certificate_of(auth_context: AuthContext) -> PeerCertificate:
    """Return what the caller's certificate says. Raises UnauthenticatedError ("certificate-missing")."""
    pem = next(iter(auth_context.get(CERTIFICATE, ())), b"")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise UnauthenticatedError(
            "certificate-missing", "the connection has no certificate"
        ) from error
    dns_names, addresses = alternative_names(certificate.extensions)
    return PeerCertificate(dns_names, addresses, certificate.not_valid_after_utc.timestamp())


def require_method(auth_context: AuthContext, method: str) -> None:
    """Check that a caller may call a method. Raises ForbiddenError ("method-identity")."""
    peer = peer_of(auth_context)
    allowed = RULES.get(method, frozenset())
    if peer.role not in allowed:
        wanted = " or ".join(f"spiffe://thalweg/{r.value}" for r in Role if r in allowed)
        raise ForbiddenError(
            "method-identity",
            f"the certificate is that of {peer.name} ({peer.role.value}), which may not call {method}",
            f"it is for {wanted}" if wanted else "nobody may",
        )


def require_node(auth_context: AuthContext, node: NodeId, region: RegionId) -> None:
    """Check that a certificate belongs to this node of this region. Raises ForbiddenError ("node-identity")."""
    peer = peer_of(auth_context)
    if peer.role is not Role.NODE:
        raise _refused(f"the certificate carries {peer.name}, which is not one node's")
    if (peer.name, peer.region) != (node, region):
        raise _refused(
            f"the certificate is that of node {peer.name} in {peer.region},"
            f" the hello speaks for {node} in {region}"
        )


class Authorisation(grpc.aio.ServerInterceptor):
    """Puts `require_method` in front of every handler of a server."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a method behind a check of who calls."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # gRPC says UNIMPLEMENTED
        method = handler_call_details.method
        kind = _kind_of(handler)
        inner = getattr(handler, kind)
        return handler._replace(**{kind: _checked(inner, method)})


def _kind_of(handler: Any) -> str:
    """Return which member of an RpcMethodHandler has the function."""
    sides = (
        "stream" if side else "unary"
        for side in (handler.request_streaming, handler.response_streaming)
    )
    return "_".join(sides)


def _checked(inner: Any, method: str) -> Any:
    """Return a handler of the same form: gRPC looks whether it is a coroutine or an async generator."""

    async def check(context: Any) -> None:
        try:
            require_method(context.auth_context(), method)
        except ForbiddenError as error:
            log.warning(
                "a call was refused", peer=context.peer(), code=error.code, why=error.detail
            )
            await abort(context, error)

    if inspect.isasyncgenfunction(inner):

        async def generate(request: Any, context: Any) -> Any:
            await check(context)
            async for response in inner(request, context):
                yield response

        return generate

    async def call(request: Any, context: Any) -> Any:
        await check(context)
        return await inner(request, context)

    return call


def _refused(detail: str) -> ForbiddenError:
    hint = "start the node with the --node and --region that its certificate was issued for"
    return ForbiddenError("node-identity", detail, hint)

"""How this node gets its certificate, and the next one every day (enrollment.proto). Its keys never leave it."""

import asyncio
import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from thalweg.v1 import enrollment_pb2, enrollment_pb2_grpc

from relay.core.backoff import backoff_s
from relay.core.enrolment import JoinToken, renew_at, retry_s
from relay.transport.authority import WrongAuthorityError, authority_of
from relay.transport.clock import wall
from relay.transport.tls import LiveTls, NodeIdentity, TlsFiles

CALL_TIMEOUT_S = 10.0

CHECK_S = 60.0
"""How often to look whether it is time: a laptop that slept, a clock that was set."""

FINAL = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)
"""Asking again would not change the answer."""

OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))

log = structlog.get_logger("relay.enrolment")


class EnrolmentError(Exception):
    """The node gets no certificate; the text says why."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a node needs to get its first certificate."""

    host: str
    port: int
    """Of a control plane's enrolment port."""
    token: JoinToken
    identity: NodeIdentity
    names: tuple[str, ...]
    """DNS names and addresses by which other nodes call this one."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A fresh key and the request to sign it, PEM."""

    key: bytes
    csr: str

    def answered(self, certificate: enrollment_pb2.Certificate) -> TlsFiles:
        return TlsFiles(certificate.ca_pem.encode(), certificate.chain_pem.encode(), self.key)


async def enrol(wanted: Enrolment) -> TlsFiles:
    """Get the first certificate; a control plane that is away is tried again for ever.

    Raises EnrolmentError when that is refused.
    """
    # One key for all attempts: an answer that was lost is given again to the same one only.
    request = await asyncio.to_thread(_make_request, wanted.names)
    failures, complained = 0, ""
    while True:
        try:
            files = await _attempt(wanted, request)
            files.check(wanted.identity)
        except WrongAuthorityError as error:
            raise EnrolmentError(str(error)) from error
        except ValueError as error:
            raise EnrolmentError(
                f"the control plane issued another certificate: {error}"
            ) from error
        except OSError as error:
            why = f"{wanted.host}:{wanted.port}: {error}"
        except grpc.aio.AioRpcError as error:
            why = f"{wanted.host}:{wanted.port}: {error.code().name}: {error.details()}"
            if error.code() in FINAL:
                raise EnrolmentError(why) from error
        else:
            log.info("enrolled", node=wanted.identity.node, region=wanted.identity.region)
            return files
        failures += 1
        if why != complained:
            complained = why
            log.warning("not enrolled yet", why=why)
        await asyncio.sleep(backoff_s(failures, random.random()))  # noqa: S311 - spreads retries


async def _attempt(wanted: Enrolment, request: _Request) -> TlsFiles:
    ca = await asyncio.to_thread(authority_of, wanted.host, wanted.port, wanted.token.pin)
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    credentials = grpc.ssl_channel_credentials(root_certificates=ca)
    async with grpc.aio.secure_channel(
        f"{host}:{wanted.port}", credentials, options=OPTIONS
    ) as channel:
        message = enrollment_pb2.EnrollRequest(
            token=wanted.token.text,
            region=wanted.identity.region,
            node=wanted.identity.node,
            csr_pem=request.csr,
        )
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        response = await stub.Enroll(message, timeout=CALL_TIMEOUT_S)
    return request.answered(response.certificate)


class Renewals:
    """Replaces the certificate before it ends, while everything goes on."""

    def __init__(self, tls: LiveTls, targets: Callable[[], Sequence[str]]) -> None:
        """`targets` returns the control planes that may be asked, each as host:port."""
        self._tls = tls
        self._targets = targets

    async def run(self) -> None:
        """Renew until cancelled."""
        failures = 0
        while True:
            await self._wait_until_due()
            if await self.renew() and self._left_s(1.0) > 0:
                failures = 0
            else:
                # Also when the new one is no better: a clock that is hours ahead, an authority that ends.
                failures += 1
                await asyncio.sleep(retry_s(failures, random.random()))  # noqa: S311 - spreads retries

    async def renew(self) -> bool:
        """Ask one control plane after the other for a certificate for a fresh key; return whether one gave it."""
        request = await asyncio.to_thread(_make_request, ())
        problems = []
        for target in self._targets():
            try:
                files = await self._ask(target, request)
                # Kept first: a process that starts again must find what it had.
                await asyncio.to_thread(files.save, self._tls.directory)
            except grpc.aio.AioRpcError as error:
                problems.append(f"{target}: {error.code().name}: {error.details()}")
                continue
            except OSError as error:
                problems.append(f"{error.filename}: {error.strerror}")
                break
            await asyncio.to_thread(self._tls.poll)
            return True
        log.warning("the certificate was not renewed", why="; ".join(problems))
        return False

    async def _wait_until_due(self) -> None:
        dice = random.random()  # noqa: S311 - spreads the fleet
        while True:
            left = self._left_s(dice)
            if left <= 0:
                return
            await asyncio.sleep(min(left, CHECK_S))

    def _left_s(self, dice: float) -> float:
        """Return seconds until the certificate has to be renewed; `dice` as in `renew_at`."""
        names = self._tls.names
        return renew_at(names.begins_at, names.ends_at, dice) - wall()

    async def _ask(self, target: str, request: _Request) -> TlsFiles:
        credentials = self._tls.channel_credentials()
        async with grpc.aio.secure_channel(target, credentials, options=OPTIONS) as channel:
            stub = enrollment_pb2_grpc.CertificateServiceStub(channel)
            message = enrollment_pb2.RenewRequest(csr_pem=request.csr)
            response = await stub.Renew(message, timeout=CALL_TIMEOUT_S)
        return request.answered(response.certificate)


def _make_request(names: Sequence[str]) -> _Request:
    """Make a P-256 key and a PKCS #10 request (RFC 2986) for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=True)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return _Request(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), csr.decode()
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

"""How nodes get their certificates: with a one-time token first, with the one they have from then on."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from controlplane.core.enrolment import (
    MAX_NAMES,
    MAX_TOKEN_TTL_S,
    Grant,
    Issued,
    JoinToken,
    SigningRequest,
    enrolment_refusal,
    host_refusal,
    parse_join_token,
    spiffe_id,
)
from controlplane.core.model import NodeId, RegionId
from controlplane.errors import (
    ForbiddenError,
    InvalidInputError,
    UnauthenticatedError,
    UnavailableError,
)
from controlplane.services.ports import CertificateIssuer, Clock
from controlplane.services.topologies import Topologies
from controlplane.store.base import Store

log = structlog.get_logger(__name__)

_NEW_TOKEN = "make one with `thalweg node token create --region REGION`"  # noqa: S105 - a hint


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A join token, seen this once: the store has a hash of its secret."""

    token: JoinToken
    grant: Grant


class Enrolment:
    """Use cases around join tokens and nodes' certificates. Without an issuer this replica signs nothing."""

    def __init__(
        self,
        store: Store,
        topologies: Topologies,
        clock: Clock,
        issuer: CertificateIssuer | None,
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._clock = clock
        self._issuer = issuer

    async def create_token(
        self, region: RegionId, node: NodeId | None, names: Sequence[str], *, ttl_s: float
    ) -> CreatedToken:
        """Make a join token for any node of a region, or for one, good for `ttl_s` seconds.

        Raises InvalidInputError ("unknown-region", "bad-name", "bad-ttl"), UnavailableError ("no-authority").
        """
        issuer = self._authority()
        await self._check_region(region)
        if not 0 < ttl_s <= MAX_TOKEN_TTL_S:
            raise InvalidInputError(
                "bad-ttl",
                f"a token lives at most {MAX_TOKEN_TTL_S / 3600:.0f} h, and more than 0 s",
            )
        if len(names) > MAX_NAMES:
            raise InvalidInputError("bad-name", f"{len(names)} names; at most {MAX_NAMES}")
        for name in names:
            if (why := host_refusal(name)) is not None:
                raise InvalidInputError("bad-name", why, "give names by which nodes call the node")
        now = self._clock.now()
        token = JoinToken(secrets.token_hex(6), secrets.token_urlsafe(32), issuer.pin())
        grant = Grant(region, node, tuple(names), now + ttl_s)
        await self._keep(token, grant, now)
        return CreatedToken(token, grant)

    async def enrol(
        self, text: str, region: RegionId, node: NodeId, csr_pem: str, *, address: str | None
    ) -> Issued:
        """Sign a new node's key. `address` is what its connection came from.

        A token that this request may not use is put back: whose it is can still use it.
        Raises UnauthenticatedError ("join-token-invalid", "join-token-used"), ForbiddenError ("join-token-region",
        "join-token-node", "name-not-allowed", "bad-node-id"), InvalidInputError ("csr-invalid", "unknown-region"),
        UnavailableError ("no-authority").
        """
        issuer = self._authority()
        token = parse_join_token(text)
        if token is None:
            raise _invalid_token("this is no join token")
        # Before the token is touched: a request that cannot be signed uses nothing up.
        request = issuer.read(csr_pem)
        now = self._clock.now()
        taken = await self._store.take_join_token(token.id, _digest(token), now=now)
        if taken is None:
            raise _invalid_token("no such join token: it expired, or was never made here")
        grant, key = Grant.loads(taken), hashlib.sha256(request.public_key).hexdigest()
        refusal = enrolment_refusal(grant, region, node, request, key=key, address=address)
        if refusal is not None:
            await self._keep(token, grant, now)
            if refusal.code == "join-token-used":
                raise UnauthenticatedError(refusal.code, refusal.detail, _NEW_TOKEN)
            raise ForbiddenError(refusal.code, refusal.detail, _NEW_TOKEN)
        try:
            await self._check_region(region)
        except InvalidInputError:
            await self._keep(token, grant, now)
            raise
        try:
            await self._keep(token, grant.used(key, node, now=now), now)
        except UnavailableError as error:
            # It is used up all the same; only an answer that is lost on its way could not be given again.
            log.warning("a used join token was not kept", token=token.id, why=error.detail)
        return issuer.sign(request, spiffe_id(region, node), now=now)

    async def renew(
        self,
        region: RegionId,
        node: NodeId,
        csr_pem: str,
        *,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
    ) -> Issued:
        """Sign another key for who a certificate says that the caller is; identity and names stay as they are in it.

        Raises InvalidInputError ("csr-invalid", "unknown-region"), UnavailableError ("no-authority").
        """
        issuer = self._authority()
        key = issuer.read(csr_pem).public_key
        await self._check_region(region)
        request = SigningRequest(key, tuple(dns_names), tuple(ip_addresses))
        return issuer.sign(request, spiffe_id(region, node), now=self._clock.now())

    # ---------------------------------------------------------------------------------------------

    def _authority(self) -> CertificateIssuer:
        if self._issuer is None:
            raise UnavailableError(
                "no-authority",
                "this control plane has no certificate authority",
                "ask one that runs with --ca-dir",
            )
        return self._issuer

    async def _check_region(self, region: RegionId) -> None:
        if region not in (await self._topologies.current()).topology.regions:
            raise InvalidInputError(
                "unknown-region",
                f"The topology declares no region {region[:63]!r}.",
                "Add the region to the topology, or correct its name.",
            )

    async def _keep(self, token: JoinToken, grant: Grant, now: float) -> None:
        ttl_s = grant.expires_at - now
        if ttl_s > 0:
            digest = _digest(token)
            await self._store.put_join_token(token.id, digest, grant.dumps(), ttl_s=ttl_s, now=now)


def _digest(token: JoinToken) -> str:
    """Return what is kept of a token. Its secret is 256 random bits: one round leaves nothing to guess."""
    return hashlib.sha256(token.secret.encode()).hexdigest()


def _invalid_token(why: str) -> UnauthenticatedError:
    return UnauthenticatedError("join-token-invalid", why, _NEW_TOKEN)

"""Join tokens: what they look like, and what one is good for.

A token is `twjoin.ID.SECRET.PIN`. The id names it in the store and in logs, the secret proves it, and the pin is the
hash of the authority's key, by which the node knows the control plane before it shows the secret (as kubeadm's
discovery token does).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from controlplane.core.addresses import parse_address
from controlplane.core.ids import name_refusal
from controlplane.core.model import NodeId, RegionId

NODE_LIFETIME_S = 24 * 3600
"""Of a node's certificate: what a stolen key is good for. There is no revocation list to keep and to miss."""

TOKEN_TTL_S = 3600.0
MAX_TOKEN_TTL_S = 24 * 3600.0
"""A token waits in user data and provisioning logs; one that nobody used within a day is made again."""

REPEAT_S = 300.0
"""For so long a used token answers the key that used it once more: the answer may have been lost on its way."""

MAX_NAMES = 10

_TOKEN = re.compile(r"twjoin\.([A-Za-z0-9_-]{8,32})\.([A-Za-z0-9_-]{32,64})\.([A-Za-z0-9_-]{43})")
_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token as the node holds it."""

    id: str
    secret: str
    pin: str

    def __str__(self) -> str:
        """Return it as it is handed over."""
        return f"twjoin.{self.id}.{self.secret}.{self.pin}"

    def __repr__(self) -> str:
        """Return it without the secret: what is printed by accident must not enrol anybody."""
        return f"JoinToken({self.id})"


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A key that wants a certificate, already proven to be its sender's."""

    public_key: bytes
    """DER SubjectPublicKeyInfo."""
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and whom to trust."""

    chain_pem: str
    ca_pem: str
    expires_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for."""

    region: RegionId
    node: NodeId | None
    """None for any node of the region."""
    names: tuple[str, ...]
    """DNS names and addresses that the certificate may carry besides the caller's own address."""
    expires_at: float
    """Seconds since 1970."""
    used_by: str = ""
    """Hash of the key that used it, empty before."""
    used_for: str = ""
    """The node that it was used for."""

    def dumps(self) -> str:
        """Return it as text for the store."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> "Grant":
        """Return what `dumps` wrote."""
        members = json.loads(text)
        return cls(**{**members, "names": tuple(members["names"])})

    def used(self, key: str, node: NodeId, *, now: float) -> "Grant":
        """Return it as used by a key."""
        if self.used_by:
            return self
        end = min(self.expires_at, now + REPEAT_S)
        return replace(self, used_by=key, used_for=node, expires_at=end)


@dataclass(frozen=True, slots=True)
class EnrolmentRefusal:
    """Why a token does not help this node."""

    code: str
    detail: str


def parse_join_token(text: str) -> JoinToken | None:
    """Return the token, or None if the text is none."""
    match = _TOKEN.fullmatch(text.strip())
    return JoinToken(match[1], match[2], match[3]) if match else None


def spiffe_id(region: RegionId, node: NodeId) -> str:
    """Return a node's SPIFFE ID."""
    return f"spiffe://thalweg/region/{region}/node/{node}"


def host_refusal(text: str) -> str | None:
    """Return why `text` may not stand in a certificate as a name to call, or None if it may. No wildcards."""
    if parse_address(text) is not None:
        return None
    labels = text.split(".")
    if len(text) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in labels):
        return f"{text[:80]!r} is neither an IP address nor a DNS name"
    return None


def enrolment_refusal(
    grant: Grant,
    region: RegionId,
    node: NodeId,
    request: SigningRequest,
    *,
    key: str,
    address: str | None,
) -> EnrolmentRefusal | None:
    """Return why this request may not be signed, or None if it may.

    `key` is the hash of the request's key, `address` what the caller's connection came from: that it can be reached
    there is proven, every other name has to be the operator's word. Otherwise a node could ask for the control
    plane's name.
    """
    if grant.used_by and (grant.used_by, grant.used_for) != (key, node):
        return EnrolmentRefusal("join-token-used", f"the token was used, for node {grant.used_for}")
    if region != grant.region:
        detail = f"the token is for region {grant.region}, the node is in {region}"
        return EnrolmentRefusal("join-token-region", detail)
    if grant.node is not None and node != grant.node:
        return EnrolmentRefusal(
            "join-token-node", f"the token is for node {grant.node}, not {node}"
        )
    if (why := name_refusal(node)) is not None:
        return EnrolmentRefusal("bad-node-id", f"{node[:80]!r} is not a node id: {why}")
    allowed = {_plain(name) for name in grant.names} | ({address} if address else set())
    for name in (*request.dns_names, *request.ip_addresses):
        if _plain(name) not in allowed:
            detail = f"the token allows {_listed(sorted(allowed))}, not {name[:80]!r}"
            return EnrolmentRefusal("name-not-allowed", detail)
    return None


def _plain(name: str) -> str:
    address = parse_address(name)
    return name.lower() if address is None else str(address)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no name"

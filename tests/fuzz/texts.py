"""Targets of the doors that read text: SDP, tokens, JSON, YAML, addresses."""

import base64
import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel, ValidationError

from controlplane.adapters.authority import Issuer
from controlplane.adapters.caller_tokens import CallerTokens
from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.api import schemas
from controlplane.api.client_address import client_address
from controlplane.api.http.problems import invalid
from controlplane.api.keys import ApiKeys
from controlplane.core.addresses import parse_network
from controlplane.core.enrolment import parse_join_token
from controlplane.core.model import ParticipantId, RoomId
from controlplane.errors import ControlPlaneError
from guard.addresses import IpNetwork
from relay.api import tokens
from relay.core import addresses
from relay.core.rooms import Rooms
from relay.core.sdp import SdpError, parse_offer
from relay.core.sdp_answer import LocalTransport, answer
from relay.engines.base import Identity
from relay.engines.embedded.publisher import Publisher
from relay.engines.embedded.subscriber import Subscriber
from relay.errors import RelayError
from tests.fuzz.target import Target
from tests.relay.api.offers import PUBLISH, RECEIVE, offer
from tests.relay.core.offers import MINIMAL
from tests.relay.engine.peers import Call
from tests.relay.rtc import Signer

DEMO = (Path(__file__).parents[2] / "regions" / "demo.yaml").read_text("utf-8")
PROXIES: tuple[IpNetwork, ...] = (parse_network("10.0.0.0/8"), parse_network("2001:db8::/32"))
WHO = Identity("r", "ana", 1, True)
HERE = LocalTransport("192.0.2.1", 9, "u", "p", "AB", "passive", 1, "c")


@cache
def _call() -> Call:
    return Call()


def _sdp(data: bytes) -> None:
    try:
        text = data.decode()
        parsed = parse_offer(text)
    except (UnicodeDecodeError, SdpError):
        return
    with suppress(RelayError):
        answer(Publisher(WHO, "n1", Rooms()).accept(parsed), HERE)
    with suppress(RelayError):
        answer(Subscriber(WHO, Rooms(), None).accept(parsed, _call().peer), HERE)


@cache
def _signer() -> Signer:
    return Signer()


def _token(data: bytes) -> None:
    with suppress(RelayError):
        tokens.verify(data.decode("latin-1"), {"k1": _signer().public}, "n1")


@cache
def _callers() -> tuple[CallerTokens, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "alg": "EdDSA", "tenant": "acme"}
    return CallerTokens.parse(json.dumps({"keys": [jwk]})), key


def _caller_jwt() -> str:
    claims = {"aud": "thalweg", "iat": 1000, "exp": 1060}
    return jwt.encode(claims, _callers()[1], algorithm="EdDSA", headers={"kid": "k"})


def _caller_token(data: bytes) -> None:
    with suppress(ControlPlaneError):
        _callers()[0].caller(data.decode("latin-1"), now=1010.0)


def _join_token(data: bytes) -> None:
    parse_join_token(data.decode("latin-1"))


def _csr() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return (
        builder.add_extension(names, critical=False).sign(key, SHA256()).public_bytes(Encoding.DER)
    )


def _signing_request(data: bytes) -> None:
    lines = base64.encodebytes(data).decode()
    kind = "CERTIFICATE REQUEST"
    for text in (f"-----BEGIN {kind}-----\n{lines}-----END {kind}-----\n", data.decode("latin-1")):
        with suppress(ControlPlaneError):
            object.__new__(Issuer).read(text)


_BODIES: tuple[type[BaseModel], ...] = (
    schemas.JoinBody,
    schemas.DecisionBody,
    schemas.ProbePlanBody,
    schemas.DrainBody,
)


def _body(data: bytes) -> None:
    for model in _BODIES:
        try:
            body = model.model_validate_json(data)
        except ValidationError as error:
            invalid("body-invalid", "the body", error)
            continue
        if isinstance(body, schemas.JoinBody):
            body.to_join(RoomId("r"), ParticipantId("p"), body.client_ip)


_QUERIES: tuple[type[BaseModel], ...] = (
    schemas.DrainQuery,
    schemas.RoomsQuery,
    schemas.TopologyQuery,
    schemas.EventsQuery,
)


def _query(data: bytes) -> None:
    text = data.decode(errors="replace")
    pairs = dict(part.partition("=")[::2] for part in text.split("&"))
    for model in _QUERIES:
        with suppress(ValidationError):
            model.model_validate(pairs)


def _yaml(data: bytes) -> None:
    with suppress(UnicodeDecodeError, TopologyError):
        parse_topology(data.decode())


def _address(data: bytes) -> None:
    text = data.decode("latin-1")
    lines = text.split("\n")
    for peer in ("10.0.0.1", "2001:db8::1", text):
        client_address(vouched=None, peer=peer, forwarded_for=lines, trusted=PROXIES)
    client_address(vouched=text, peer=None, forwarded_for=(), trusted=())
    peer_address = addresses.parse_address("10.0.0.1")
    assert peer_address is not None
    addresses.client_address(peer_address, lines, PROXIES)
    addresses.parse_address(text)


def _api_key(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    with suppress(ControlPlaneError):
        ApiKeys.parse(text)


_JOIN = {
    "session": "s",
    "client_ip": "192.0.2.1",
    "probes": [{"region": "eu-frankfurt", "rtt_ms": [1.5, 2]}],
    "role": "viewer",
    "require": {"residency": ["eu"], "regions": ["eu-frankfurt"]},
    "exclude_nodes": ["a"],
}
_KEY_LINE = f"ana:{hashlib.sha256(b'key').hexdigest()}:acme:join,read # comment"

TARGETS = {
    "SDP offer": Target(
        _sdp, tuple(text.encode() for text in (PUBLISH, RECEIVE, MINIMAL, offer("a=rid:h send")))
    ),
    "participant token": Target(_token, (_signer().token("ana").encode(),)),
    "JSON body": Target(_body, (json.dumps(_JOIN).encode(), b'{"deadline_s": 1, "pace": 2}')),
    "query": Target(_query, (b"after=r&limit=10&room=r", b"dry_run=true")),
    "topology YAML": Target(_yaml, (DEMO.encode(),)),
    "caller's token": Target(_caller_token, (_caller_jwt().encode(),)),
    "join token": Target(_join_token, (f"twjoin.abcdefgh.{'s' * 32}.{'p' * 43}".encode(),)),
    "signing request": Target(
        _signing_request, (_csr(), _csr().replace(b"\x02\x01\0", b"\x02\x01\x08"))
    ),
    "client address": Target(_address, (b"198.51.100.1, 10.0.0.2:80\n[2001:db8::2]:443, ::1",)),
    "API key file": Target(_api_key, (_KEY_LINE.encode(),)),
}

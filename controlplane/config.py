"""Settings of a control plane process: read once, checked all at once, typed from then on."""

import ipaddress
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from controlplane.adapters.authority import Issuer
from controlplane.adapters.geoip import GeoIp
from controlplane.adapters.signing_keys import SigningKeys
from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.adapters.turn_secrets import TurnSecretFile
from controlplane.api.callers import Callers, jwks_file, key_file
from controlplane.core.addresses import parse_network
from controlplane.core.ids import id_refusal
from controlplane.errors import ControlPlaneError
from controlplane.store.redis.target import Target, parse_target
from guard.addresses import IpNetwork

TLS_FILES = ("ca.pem", "cert.pem", "key.pem")

_T = TypeVar("_T")


class SettingsError(Exception):
    """The settings cannot work; `problems` has every reason, each with what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    """0 for one that the system chooses."""

    def __str__(self) -> str:
        """Return host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of the machine, which nobody can call."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `thalweg serve`, as they were given."""

    topology: Path
    http: str
    grpc: str
    tls_dir: Path
    api_key_file: Path
    jwks_file: Path | None = None
    signing_key: Sequence[Path] = ()
    ca_dir: Path | None = None
    enroll: str | None = None
    grpc_advertise: str | None = None
    turn_secret_file: Path | None = None
    geoip: Sequence[Path] = ()
    trusted_proxy: Sequence[str] = ()
    declared_rtts: bool = False
    open_metrics: bool = False
    tenant_rate: float | None = None
    redis: str | None = None
    redis_password_file: Path | None = None
    replica_id: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that app.py needs, already read and checked."""

    topology_text: str
    http: Address
    grpc: Address
    tls_dir: Path
    callers: Callers = field(repr=False)
    signer: SigningKeys = field(repr=False)
    turn: TurnSecretFile | None
    geoip: tuple[Path, ...]
    trusted_proxies: tuple[IpNetwork, ...]
    declared_rtts: bool
    """Placement trusts the round trips of the topology and ignores measured ones."""
    open_metrics: bool
    issuer: Issuer | None = None
    """Signs nodes' certificates."""
    enroll: Address | None = None
    """Where new nodes come with a join token."""
    grpc_advertise: Address | None = None
    """Where nodes reach `grpc`, if elsewhere."""
    tenant_rate: float | None = None
    """Requests a second that one tenant may make on average, None for any number."""
    redis: Target | None = None
    """Where replicas share their state; None for a process that is alone."""
    replica_id: str = "alone"


def load_settings(options: Options) -> Settings:
    """Read the files and check the values. Raises SettingsError with every problem."""
    problems: list[str] = []

    def attempt(flag: str, make: Callable[[], _T]) -> _T | None:
        try:
            return make()
        except OSError as error:
            problems.append(f"{flag}: cannot read {error.filename}: {error.strerror}")
        except UnicodeDecodeError as error:
            problems.append(f"{flag}: not UTF-8: {error.reason} at byte {error.start}")
        except TopologyError as error:
            problems.extend(f"{flag}: {problem}" for problem in error.problems)
        except ControlPlaneError as error:
            problems.append(f"{flag}: {error.detail}" + (f" ({error.hint})" if error.hint else ""))
        except ValueError as error:
            problems.append(f"{flag}: {error}")
        return None

    topology = attempt("--topology", lambda: _topology(options.topology))
    http = attempt("--http", lambda: parse_address(options.http))
    grpc = attempt("--grpc", lambda: parse_address(options.grpc))
    attempt("--tls-dir", lambda: _check_tls(options.tls_dir))
    keys = attempt("--api-key-file", lambda: key_file(options.api_key_file))
    jwks = attempt("--jwks-file", lambda: jwks_file(options.jwks_file))
    signer = attempt("--signing-key", lambda: _signer(options.signing_key))
    turn = attempt("--turn-secret-file", lambda: _turn_secrets(options.turn_secret_file))
    issuer = attempt("--ca-dir", lambda: Issuer(options.ca_dir) if options.ca_dir else None)
    enroll = attempt("--enroll", lambda: _enroll(options))
    advertise = attempt("--grpc-advertise", lambda: _advertised(options.grpc_advertise))
    redis = attempt("--redis", lambda: _redis(options))
    replica_id = attempt("--replica-id", lambda: _replica_id(options.replica_id))
    attempt("--geoip", lambda: GeoIp.open(options.geoip).close())
    proxies = attempt("--trusted-proxy", lambda: _networks(options.trusted_proxy))
    if options.declared_rtts:
        problems += _not_loopback({"--http": http, "--grpc": grpc})
    if (
        problems
        or topology is None
        or http is None
        or grpc is None
        or keys is None
        or jwks is None
        or signer is None
    ):
        raise SettingsError(problems)
    return Settings(
        topology_text=topology,
        http=http,
        grpc=grpc,
        tls_dir=options.tls_dir,
        callers=Callers(keys, jwks),
        signer=signer,
        turn=turn,
        geoip=tuple(options.geoip),
        trusted_proxies=proxies or (),
        declared_rtts=options.declared_rtts,
        open_metrics=options.open_metrics,
        tenant_rate=options.tenant_rate,
        issuer=issuer,
        enroll=enroll,
        grpc_advertise=advertise,
        redis=redis,
        replica_id=replica_id or "",
    )


def parse_address(text: str) -> Address:
    """Return the address of `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} needs brackets around the IPv6 address: [{host}]:{port}")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"{text!r} is not HOST:PORT, for example 127.0.0.1:8080")
    return Address(host, int(port))


def _redis(options: Options) -> Target | None:
    if options.redis is None:
        return None
    file = options.redis_password_file
    return parse_target(options.redis, file.read_text("utf-8").strip() if file else None)


def _replica_id(text: str | None) -> str:
    if text is None:
        # Unlike any other's, of this machine's earlier lives too: what it wrote before is news to it.
        return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    refusal = id_refusal(text)
    if refusal is not None:
        raise ValueError(f"{text!r} is no replica id: {refusal}")
    return text


def _advertised(text: str | None) -> Address | None:
    if text is None:
        return None
    address = parse_address(text)
    if address.is_wildcard or not address.port:
        raise ValueError(f"{address} is not an address that nodes reach")
    return address


def _topology(path: Path) -> str:
    text = path.read_text("utf-8")
    parse_topology(text, str(path))
    return text


def _check_tls(folder: Path) -> None:
    missing = [name for name in TLS_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; it needs {', '.join(TLS_FILES)}")
    ca, cert, key = (folder / name for name in TLS_FILES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ValueError(f"{ca} holds no certificates in PEM: {error.reason}") from error
    try:
        # Never ask for a passphrase on the terminal: gRPC could not use such a key either.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        what = f"{cert} and {key} are no certificate in PEM with its own unencrypted key"
        raise ValueError(f"{what}: {error}") from error


def _signer(paths: Sequence[Path]) -> SigningKeys:
    return SigningKeys.open(paths) if paths else SigningKeys.generate()


def _enroll(options: Options) -> Address | None:
    if options.enroll is None:
        return None
    if options.ca_dir is None:
        raise ValueError("without --ca-dir there is no authority to sign nodes' certificates")
    return parse_address(options.enroll)


def _turn_secrets(path: Path | None) -> TurnSecretFile | None:
    return None if path is None else TurnSecretFile(path)


def _networks(texts: Sequence[str]) -> tuple[IpNetwork, ...]:
    try:
        return tuple(parse_network(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"{error}; write it as 10.0.0.0/8 or 2001:db8::/32") from error


def _not_loopback(addresses: dict[str, Address | None]) -> list[str]:
    return [
        f"--declared-rtts: {flag} {address} is reachable from other machines. The flag makes placement trust the"
        " round trips of the topology instead of measuring them: it is for demos on 127.0.0.1. Leave it out"
        for flag, address in addresses.items()
        if address is not None and not address.is_loopback
    ]

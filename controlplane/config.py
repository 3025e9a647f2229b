"""Settings of a control plane process: read once, checked all at once, typed from then on."""

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from controlplane.adapters.geoip import GeoIp
from controlplane.adapters.tokens import Ed25519Signer
from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.api.keys import ApiKeys
from controlplane.core.addresses import IpNetwork, parse_network
from controlplane.errors import ControlPlaneError

TLS_FILES = ("ca.pem", "cert.pem", "key.pem")

MIN_TURN_SECRET = 16
"""Bytes. Every user of TURN sees names and passwords made of it, and may try secrets at leisure."""

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


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `thalweg serve`, as they were given."""

    topology: Path
    http: str
    grpc: str
    tls_dir: Path
    api_key_file: Path
    signing_key: Path | None = None
    turn_secret_file: Path | None = None
    geoip: Sequence[Path] = ()
    trusted_proxy: Sequence[str] = ()
    declared_rtts: bool = False
    open_metrics: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that app.py needs, already read and checked."""

    topology_text: str
    http: Address
    grpc: Address
    tls_dir: Path
    keys: ApiKeys = field(repr=False)
    signer: Ed25519Signer = field(repr=False)
    signer_is_lasting: bool
    """False when the key was made for this process only."""
    turn_secret: bytes | None = field(repr=False)
    geoip: tuple[Path, ...]
    trusted_proxies: tuple[IpNetwork, ...]
    declared_rtts: bool
    """Placement trusts the round trips of the topology and ignores measured ones."""
    open_metrics: bool


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
    keys = attempt("--api-key-file", lambda: ApiKeys.parse(options.api_key_file.read_text("utf-8")))
    signer = attempt("--signing-key", lambda: _signer(options.signing_key))
    secret = attempt("--turn-secret-file", lambda: _turn_secret(options.turn_secret_file))
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
        or signer is None
    ):
        raise SettingsError(problems)
    return Settings(
        topology_text=topology,
        http=http,
        grpc=grpc,
        tls_dir=options.tls_dir,
        keys=keys,
        signer=signer,
        signer_is_lasting=options.signing_key is not None,
        turn_secret=secret,
        geoip=tuple(options.geoip),
        trusted_proxies=proxies or (),
        declared_rtts=options.declared_rtts,
        open_metrics=options.open_metrics,
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


def _signer(path: Path | None) -> Ed25519Signer:
    return Ed25519Signer.generate() if path is None else Ed25519Signer.from_file(path)


def _turn_secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    secret = path.read_bytes().strip()
    if len(secret) < MIN_TURN_SECRET:
        raise ValueError(
            f"{path} has {len(secret)} bytes, at least {MIN_TURN_SECRET} are needed;"
            " make it with `openssl rand -hex 32`"
        )
    return secret


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

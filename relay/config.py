"""Settings of a node process: read once from the command line, checked all at once, typed from then on."""

import argparse
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from relay.core.addresses import IpNetwork
from relay.transport.tls import NodeIdentity, TlsFiles

DEFAULT_CAPACITY = 100
"""Participants that send and receive 2 Mbit/s of video and Opus: what one core forwards with room to spare."""

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")

_T = TypeVar("_T")


class SettingsError(Exception):
    """The settings cannot work; `problems` has every reason, each with what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket is bound, or reached."""

    host: str
    port: int
    """0 for one that the system chooses."""

    def __str__(self) -> str:
        """Return host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def pair(self) -> tuple[str, int]:
        """Return host and port as sockets take them."""
        return self.host, self.port

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of the machine, which nobody can send to."""
        return self.host in ("0.0.0.0", "::", "")  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that app.py needs, already read and checked."""

    node: str
    region: str
    http: Address
    public_url: str
    """Base of WHIP and WHEP URLs; empty for http://HTTP-HOST:PORT with the port that was bound."""
    trusted_proxies: tuple[IpNetwork, ...]
    """Whose X-Forwarded-For says whom a request is from."""
    media: Address
    media_advertise: Address
    trunk_grpc: Address
    trunk_udp: Address
    trunk_advertise: Address
    control_plane: str
    """host:port of its NodeService."""
    tls: TlsFiles = field(repr=False)
    state_dir: Path
    capacity: int


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = argparse.ArgumentParser(
        prog="thalweg-relay",
        description="An edge SFU: WHIP and WHEP for clients, trunks to other edges, a session with the control plane.",
        epilog="Behind 1:1 NAT bind private addresses and name the public ones with --media-advertise, "
        "--trunk-advertise and --public-url.",
    )
    add = command.add_argument
    add("--node", required=True, help="this node's id, as in its certificate")
    add("--region", required=True, help="its region's id, as in its certificate and the topology")
    add("--http", required=True, metavar="HOST:PORT", help="WHIP, WHEP, /probe, health, metrics")
    add(
        "--public-url",
        default="",
        metavar="URL",
        help="how clients reach --http (default: http://HOST:PORT)",
    )
    add(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="CIDR",
        help="a TLS proxy in front of --http, whose X-Forwarded-For tells clients apart; may be repeated",
    )
    add("--media", required=True, metavar="HOST:PORT", help="the UDP port of all clients' media")
    add("--media-advertise", metavar="IP:PORT", help="where clients reach --media, if elsewhere")
    add(
        "--trunk-grpc",
        required=True,
        metavar="HOST:PORT",
        help="signalling of other nodes; what they are told",
    )
    add("--trunk-udp", required=True, metavar="HOST:PORT", help="media of other nodes")
    add(
        "--trunk-advertise",
        metavar="IP:PORT",
        help="where other nodes reach --trunk-udp, if elsewhere",
    )
    add("--control-plane", required=True, metavar="HOST:PORT", help="its gRPC address")
    add(
        "--tls-dir",
        required=True,
        type=Path,
        help="ca.pem, cert.pem and key.pem; the certificate names the node",
    )
    add("--state-dir", required=True, type=Path, help="keeps the last good snapshot")
    add(
        "--capacity",
        type=int,
        default=DEFAULT_CAPACITY,
        help="participants at most (default %(default)s)",
    )
    return command


def load_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line. Raises `SettingsError` with every problem; argparse exits on a missing flag."""
    given = parser().parse_args(arguments)
    problems: list[str] = []

    def attempt(flag: str, make: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return make()
        except OSError as error:
            problems.append(f"{flag}: cannot read {error.filename}: {error.strerror}")
        except ValueError as error:
            problems.append(f"{flag}: {error}")
        return otherwise

    nowhere = Address("", 0)
    bound = {
        flag: attempt(f"--{flag}", partial(parse_address, text), nowhere)
        for flag, text in (
            ("http", given.http),
            ("media", given.media),
            ("trunk-grpc", given.trunk_grpc),
            ("trunk-udp", given.trunk_udp),
        )
    }
    attempt("--control-plane", lambda: parse_address(given.control_plane), nowhere)
    media = attempt(
        "--media-advertise", lambda: _advertised(given.media_advertise, bound["media"]), nowhere
    )
    trunk = attempt(
        "--trunk-advertise", lambda: _advertised(given.trunk_advertise, bound["trunk-udp"]), nowhere
    )
    untrusted: tuple[IpNetwork, ...] = ()
    proxies = attempt("--trusted-proxy", lambda: _networks(given.trusted_proxy), untrusted)
    attempt("--public-url", lambda: _check_url(given.public_url, bound["http"]), None)
    for flag, value in (("--node", given.node), ("--region", given.region)):
        if not _ID.fullmatch(value):
            problems.append(
                f"{flag}: {value!r} is not 1 to 63 of a-z, 0-9 and '-', beginning with a letter"
            )
    if given.capacity < 1:
        problems.append("--capacity: a node takes at least one participant")
    tls = attempt(
        "--tls-dir", lambda: _tls(given.tls_dir, NodeIdentity(given.region, given.node)), None
    )
    if problems or tls is None:
        raise SettingsError(problems)
    return Settings(
        node=given.node,
        region=given.region,
        http=bound["http"],
        public_url=given.public_url.rstrip("/"),
        trusted_proxies=proxies,
        media=bound["media"],
        media_advertise=media,
        trunk_grpc=bound["trunk-grpc"],
        trunk_udp=bound["trunk-udp"],
        trunk_advertise=trunk,
        control_plane=given.control_plane,
        tls=tls,
        state_dir=given.state_dir,
        capacity=given.capacity,
    )


def parse_address(text: str) -> Address:
    """Read HOST:PORT, an IPv6 address in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _advertised(text: str | None, bound: Address) -> Address:
    """Return what to tell others: the given address, else the bound one, if one can send to it."""
    if text is None:
        if bound.is_wildcard and bound.port:
            raise ValueError(
                f"{bound} is every address of this machine: name the one that others reach"
            )
        return bound
    address = parse_address(text)
    # A candidate carries an address; names of mDNS are for browsers.
    ipaddress.ip_address(address.host)
    if address.is_wildcard:
        raise ValueError(f"{address} is not an address that others reach")
    return address


def _networks(texts: Sequence[str]) -> tuple[IpNetwork, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"{error}; write it as 10.0.0.0/8 or 2001:db8::/32") from error


def _check_url(url: str, http: Address) -> None:
    if not url:
        if http.is_wildcard and http.port:
            raise ValueError(f"--http is {http}: name the URL by which clients reach it")
        return
    parts = urlsplit(url)
    rest = parts.path.rstrip("/") or parts.query or parts.fragment  # sessions are at /sessions/…
    if parts.scheme not in ("http", "https") or not parts.netloc or rest:
        raise ValueError(f"{url!r} is not a base URL such as https://fra1.example.net")


def _tls(directory: Path, expected: NodeIdentity) -> TlsFiles:
    files = TlsFiles.load(directory)
    identity = files.identity()
    if identity != expected:
        named = f"node {identity.node} of {identity.region}" if identity else "no node"
        raise ValueError(
            f"{directory / 'cert.pem'} names {named}, not node {expected.node} of {expected.region}: "
            f"it needs the URI SAN spiffe://thalweg/region/{expected.region}/node/{expected.node}"
        )
    return files

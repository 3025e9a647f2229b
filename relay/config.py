"""Settings of a node process: read once from the command line, checked all at once, typed from then on."""

import argparse
import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from guard.addresses import IpNetwork
from relay.api.enrolment import Enrolment
from relay.core.enrolment import parse_join_token
from relay.transport.clock import wall
from relay.transport.tls import NodeIdentity, TlsFiles
from relay.turn.model import TurnSettings
from relay.turn.settings import add_turn_flags, turn_settings

DEFAULT_CAPACITY = 100
"""Participants that send and receive 2 Mbit/s of video and Opus: what one core forwards with room to spare."""

TOKEN_VARIABLE = "THALWEG_JOIN_TOKEN"  # noqa: S105 - its name

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
    control_planes: tuple[str, ...]
    """host:port of the NodeService of one replica or more."""
    tls_dir: Path
    tls: TlsFiles | None = field(repr=False)
    """None while the node has to enrol first."""
    enrolment: Enrolment | None
    """How to enrol, when that is to be done."""
    renews: bool
    """The control plane's authority issues the certificate, and the next one every day."""
    state_dir: Path
    capacity: int
    log_level: str
    turn: TurnSettings | None
    """None for no TURN server beside this node."""


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
    add(
        "--control-plane",
        required=True,
        action="append",
        metavar="HOST:PORT",
        help="the gRPC address of a replica; may be repeated, the node learns of the others",
    )
    add(
        "--tls-dir",
        required=True,
        type=Path,
        help="ca.pem, cert.pem and key.pem; the certificate names the node; read again when they change",
    )
    add(
        "--enroll",
        metavar="HOST:PORT",
        help="get the certificate here and renew it by oneself; the first time with a join token",
    )
    add(
        "--join-token-file",
        type=Path,
        metavar="FILE",
        help=f"one-time token for --enroll; without it the variable {TOKEN_VARIABLE}",
    )
    add("--state-dir", required=True, type=Path, help="keeps the last good snapshot")
    add(
        "--log-level",
        choices=("debug", "info", "warning"),
        default="info",
        help="lines from here up (default %(default)s); none carries a credential or a whole address",
    )
    add(
        "--capacity",
        type=int,
        default=DEFAULT_CAPACITY,
        help="participants at most (default %(default)s)",
    )
    add_turn_flags(add)
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
    for target in given.control_plane:
        attempt("--control-plane", partial(parse_address, target), nowhere)
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
    identity = NodeIdentity(given.region, given.node)
    tls = attempt(
        "--tls-dir", lambda: _tls(given.tls_dir, identity, enrols=given.enroll is not None), None
    )
    enrolment = None
    if tls is None and given.enroll is not None and not problems:
        trunk_host = (trunk if bound["trunk-grpc"].is_wildcard else bound["trunk-grpc"]).host
        enrolment = attempt(
            "--join-token-file", lambda: _enrolment(given, identity, trunk_host), None
        )
    turn = attempt("--turn", lambda: turn_settings(given), None)
    if problems:
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
        control_planes=tuple(given.control_plane),
        tls_dir=given.tls_dir,
        tls=tls,
        enrolment=enrolment,
        renews=given.enroll is not None,
        state_dir=given.state_dir,
        capacity=given.capacity,
        log_level=given.log_level,
        turn=turn,
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


def _tls(directory: Path, expected: NodeIdentity, *, enrols: bool) -> TlsFiles | None:
    """Return the certificate, or None if the node enrols and has none that is still good."""
    try:
        files = TlsFiles.load(directory)
    except FileNotFoundError:
        if enrols:
            return None
        raise
    try:
        names = files.check(expected)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    return None if enrols and names.ends_at <= wall() else files


def _enrolment(given: argparse.Namespace, identity: NodeIdentity, trunk_host: str) -> Enrolment:
    """Return how to get the first certificate, with the name by which other nodes call this one."""
    at = parse_address(given.enroll)
    if given.join_token_file is not None:
        text = given.join_token_file.read_text("utf-8")
    else:
        text = os.environ.get(TOKEN_VARIABLE, "")
    if not text.strip():
        raise ValueError(
            f"{given.tls_dir} has no certificate that is still good, and there is no join token:"
            " `thalweg node token create` makes one"
        )
    return Enrolment(at.host, at.port, parse_join_token(text), identity, (trunk_host,))

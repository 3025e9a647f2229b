"""The part of a node's command line that is for its TURN server."""

import argparse
import ipaddress
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from relay.turn.config import unsafe_path
from relay.turn.model import TurnMode, TurnSettings
from relay.turn.process import PROGRAM

DEFAULT_PORTS = "49152-65535"
"""RFC 6335's dynamic ports, coturn's own default."""


def add_turn_flags(add: Callable[..., argparse.Action]) -> None:
    """Declare the flags."""
    add(
        "--turn",
        choices=[mode.value for mode in TurnMode],
        help="run: run coturn beside this node; files: only keep the files of one that runs by itself",
    )
    add(
        "--turn-dir",
        type=Path,
        help="turnserver.conf and its database (default: turn in --state-dir)",
    )
    add(
        "--turn-host",
        default="",
        metavar="HOST",
        help="which TURN server of the topology's region this is, if it has several",
    )
    add(
        "--turn-listen",
        action="append",
        default=[],
        metavar="IP",
        help="an address of this machine for clients and relayed media; IPv4 and IPv6 may both be given",
    )
    add(
        "--turn-external",
        action="append",
        default=[],
        metavar="IP[/IP]",
        help="what a 1:1 NAT makes of --turn-listen: PUBLIC or PUBLIC/PRIVATE",
    )
    add(
        "--turn-ports",
        default=DEFAULT_PORTS,
        metavar="FIRST-LAST",
        help="UDP ports of relayed media (default %(default)s)",
    )
    add("--turn-cert", type=Path, metavar="FILE", help="certificate chain of the TLS listener, PEM")
    add("--turn-key", type=Path, metavar="FILE", help="its key, PEM")


def turn_settings(given: argparse.Namespace) -> TurnSettings | None:
    """Return what the flags say, None without --turn. Raises ValueError with everything that is wrong."""
    if given.turn is None:
        return None
    problems: list[str] = []
    mode = TurnMode(given.turn)
    directory: Path = (given.turn_dir or given.state_dir / "turn").absolute()
    if mode is TurnMode.RUN and shutil.which(PROGRAM) is None:
        problems.append(f"{PROGRAM} is not installed here: install coturn")
    if not given.turn_listen:
        problems.append("--turn-listen is missing: name the address that clients reach it at")
    for address in given.turn_listen:
        problems += _address_problems("--turn-listen", address)
    for mapping in given.turn_external:
        public, slash, private = mapping.partition("/")
        for address in (public, private) if slash else (public,):
            problems += _address_problems("--turn-external", address)
    ports = re.fullmatch(r"(\d{1,5})-(\d{1,5})", given.turn_ports)
    first, last = (int(ports[1]), int(ports[2])) if ports else (0, 0)
    if not 1024 <= first <= last <= 65535:
        problems.append(f"--turn-ports: {given.turn_ports!r} is not FIRST-LAST of 1024 to 65535")
    if (given.turn_cert is None) != (given.turn_key is None):
        problems.append("--turn-cert and --turn-key come together")
    files = [path.absolute() for path in (given.turn_cert, given.turn_key) if path is not None]
    problems += [f"cannot read {path}" for path in files if not path.is_file()]
    problems += filter(None, map(unsafe_path, [directory, *files]))
    if problems:
        raise ValueError("; ".join(problems))
    return TurnSettings(
        mode=mode,
        directory=directory,
        host=given.turn_host,
        listen=tuple(given.turn_listen),
        external=tuple(given.turn_external),
        ports=(first, last),
        cert=files[0] if files else None,
        key=files[1] if files else None,
    )


def _address_problems(flag: str, text: str) -> list[str]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [f"{flag}: {text!r} is not an IP address"]
    if address.is_unspecified or address.is_multicast:
        return [f"{flag}: {text} is not an address of one machine"]
    return []

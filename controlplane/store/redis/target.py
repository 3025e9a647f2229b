"""Where Redis is, as operators write it. Imports nothing of Redis: who runs without it does not load it."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

Address = tuple[str, int]

DEFAULT_PORT, DEFAULT_SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, slots=True)
class Target:
    """Where Redis is, as an operator says it."""

    kind: str
    """"single", "sentinel" or "cluster"."""
    hosts: tuple[Address, ...]
    master: str = ""
    """Sentinel's name for the master."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    """Certificates to trust instead of the system's."""


def parse_target(url: str, passwords: str | None = None) -> Target:
    """Return the target of a URL. Raises ValueError with what to do.

    `passwords` is what the password file says: Redis' own, and on a second line that of the Sentinels, if they ask.

    `redis://HOST:PORT/DB`, `redis+sentinel://HOST:PORT,HOST:PORT/MASTER`, `redis+cluster://HOST:PORT,HOST:PORT`; with
    `rediss` for TLS and `?ca=FILE` for a CA of one's own. A user name may stand before an @, a password may not.
    """
    parts = urlsplit(url)
    secure, _, kind = parts.scheme.partition("+")
    if secure not in {"redis", "rediss"} or kind not in {"", "sentinel", "cluster"}:
        raise ValueError(
            f"{parts.scheme}:// is none of redis, rediss, redis+sentinel, redis+cluster"
        )
    user, at, hosts = parts.netloc.rpartition("@")
    if ":" in user:
        raise ValueError("a password has no place in a URL: give --redis-password-file")
    default = DEFAULT_SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT
    path = unquote(parts.path.strip("/"))
    if kind == "sentinel" and not path:
        raise ValueError("the master's name is missing: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
    if path and (kind == "cluster" or not (kind or path.isdigit())):
        raise ValueError(f"/{path} is no number of a database")
    password, _, sentinel_password = (passwords or "").partition("\n")
    ca = parse_qs(parts.query).get("ca", [""])[0]
    return Target(
        kind=kind or "single",
        hosts=tuple(_address(one, default) for one in hosts.split(",")),
        master=path if kind == "sentinel" else "",
        db=int(path) if path and not kind else 0,
        username=unquote(user) if at else None,
        password=password.strip() or None,
        sentinel_password=sentinel_password.strip() or None,
        tls=secure == "rediss",
        ca=Path(ca) if ca else None,
    )


def _address(text: str, default: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default)
    if not (host and port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)

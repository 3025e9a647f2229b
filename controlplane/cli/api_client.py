"""A control plane's HTTP API as the operator's commands use it: one request at a time, and its errors as sentences.

The standard library's client: a command is there in a moment. The API key never stands on a command line, where every
user of the machine could read it, and never follows a redirection to another host.
"""

import ipaddress
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

import typer
from rich.markup import escape

from controlplane.cli.output import CommandError, stderr

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where `thalweg up` and the examples listen."""

TIMEOUT_S = 10.0
PLANNING_S = 120.0
"""A dry run looks at up to a thousand rooms."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes; a plan that moves a thousand rooms has a few megabytes."""

MAX_KEY = 4096

URL_VARIABLE = "THALWEG_URL"
KEY_VARIABLE = "THALWEG_API_KEY"

UrlOption = Annotated[
    str, typer.Option("--url", envvar=URL_VARIABLE, help="The control plane's HTTP API.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        help=f"File with your API key; the variable {KEY_VARIABLE} when left out.",
        show_default=False,
    ),
]


_HINTS: Mapping[str, str] = {
    "api-key-unknown": f"The control plane does not know the key in {KEY_VARIABLE} or --api-key-file.",
    "node-not-found": "thalweg node list shows those that registered; one that is lost for long is forgotten.",
    "participant-not-found": "It left, its lease expired, or it never joined: see thalweg room show ROOM.",
}
"""What to do next on a command line, where the API's own hint speaks of HTTP."""


class ApiError(CommandError):
    """The control plane refused a request."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(
            f"{problem['detail']} ({status} {problem['code']})",
            _HINTS.get(problem["code"]) or problem.get("hint") or "",
            [
                f"  {'.'.join(map(str, one.get('loc', [])))}: {one.get('msg', '')}"
                for one in problem.get("errors") or []
            ],
        )
        self.status = status
        self.code: str = problem["code"]
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Reply:
    """A success."""

    text: str
    etag: str
    """As it came, quotes included; empty when there is none."""

    def json(self) -> Any:
        """Return the body, which is JSON."""
        return json.loads(self.text)


class ApiClient:
    """Asks one control plane."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._key = key
        handlers: list[urllib.request.BaseHandler] = [_NoRedirection()]
        if is_loopback(self.url):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, **query: str | int | None) -> Any:
        """Return the JSON at a path."""
        return self.send("GET", path, query=query).json()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        yaml: str | None = None,
        query: Mapping[str, str | int | None] | None = None,
        if_match: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Reply:
        """Return the answer to a request. Raises ApiError for a refusal, CommandError for no answer at all."""
        given = {key: value for key, value in (query or {}).items() if value is not None}
        url = self.url + path + (f"?{urlencode(given)}" if given else "")
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json, */*"}
        data: bytes | None = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if yaml is not None:
            data, headers["Content-Type"] = yaml.encode(), "application/yaml"
        if if_match is not None:
            headers["If-Match"] = if_match
        # The scheme was checked by `connect`.
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return Reply(_read(answer).decode(), answer.headers.get("ETag", ""))
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error, self.url) from error
        except (OSError, HTTPException, UnicodeDecodeError) as error:
            raise _unreachable(self.url, error) from error


def connect(url: str, api_key_file: Path | None) -> ApiClient:
    """Return a client for a control plane. Raises CommandError when the URL is none or there is no key."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CommandError(
            f"{url!r} is no URL of a control plane.",
            f"Give --url or {URL_VARIABLE}, such as {DEFAULT_URL}.",
        )
    if parts.username or parts.query or parts.fragment:
        raise CommandError(
            f"{parts.hostname}: the URL has more than scheme, host, port and path.",
            f"The key goes into {KEY_VARIABLE} or --api-key-file, not into the URL.",
        )
    key = _key(api_key_file)
    if parts.scheme == "http" and not is_loopback(url):
        stderr().print(
            f"[yellow]![/] {escape(parts.hostname)}: without https, the API key goes over the network in the clear."
        )
    return ApiClient(url, key)


def path_of(*segments: str) -> str:
    """Return the path /v1/… of these segments, each as one."""
    return "/v1/" + "/".join(quote(segment, safe="~") for segment in segments)


def _key(file: Path | None) -> str:
    if file is None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise CommandError(
                "There is no API key.", f"Set {KEY_VARIABLE}, or give --api-key-file FILE."
            )
    else:
        key = _key_in(file)
    if not key.isprintable() or not key.isascii() or " " in key or len(key) > MAX_KEY:
        raise CommandError(
            "The API key has characters that no key has.", "Give the key alone, on one line."
        )
    return key


def _key_in(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            key = opened.read(MAX_KEY + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The key file cannot be read: {error}", "") from error
    if not key:
        raise CommandError(f"{file} is empty.", "Put the API key into it, on one line.")
    if re.match(r"[^:\s]+:[0-9a-f]{64}\b", key):
        raise CommandError(
            f"{file} is the server's file, which has hashes of keys.",
            "Give a file with the key itself: whoever made the key has it.",
        )
    return key


def is_loopback(url: str) -> bool:
    """Return whether a URL stays on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirection would take the key along."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Return None, which makes it an HTTPError."""
        del self, req, fp, code, msg, headers, newurl


def _read(answer: Any) -> bytes:
    body: bytes = answer.read(MAX_ANSWER + 1)
    if len(body) > MAX_ANSWER:
        raise HTTPException(f"more than {MAX_ANSWER // 1024 // 1024} MiB")
    return body


def _refusal(error: urllib.error.HTTPError, url: str) -> CommandError:
    if 300 <= error.code < 400:
        return CommandError(
            f"{url} sends on to {error.headers.get('Location', 'another address')}.",
            "Give that address with --url, if you trust it with your key.",
        )
    try:
        problem = json.loads(_read(error))
        return ApiError(
            error.code, problem | {"detail": problem["detail"], "code": problem["code"]}
        )
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return CommandError(
            f"{url} answers {error.code} {error.reason}, and not as a control plane does.",
            f"Is --url (or {URL_VARIABLE}) that of the control plane's HTTP API?",
        )


def _unreachable(url: str, error: Exception) -> CommandError:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        why = "it does not answer in time"
    elif isinstance(reason, ConnectionRefusedError):
        why = "nothing listens there"
    else:
        why = str(reason) or type(reason).__name__
    return CommandError(
        f"{url} cannot be asked: {why}.",
        f"Is the control plane running? Its address is --url or {URL_VARIABLE}.",
    )

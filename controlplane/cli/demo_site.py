"""The demo's web server: the page, its modules, and the signalling behind it.

Only for loopback: requests that name another host are refused, so that a web page elsewhere cannot reach the demo
by pointing its own name at 127.0.0.1 (DNS rebinding), and writes must be JSON, which another origin cannot send
without a preflight that is never granted.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Handler

import controlplane
from controlplane.adapters.topology_yaml import parse_topology
from controlplane.api.http.problems import problems
from controlplane.cli.demo_signalling import DemoSignalling
from controlplane.core.model import Topology
from controlplane.errors import ForbiddenError

MAX_BODY = 64 * 1024
"""The control plane's own limit."""
CONTENT_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
CONTENT_SECURITY_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "media-src": "'self' blob:",
    # WHIP, WHEP and /probe of the edges, whose ports are known only when they have registered.
    "connect-src": "'self' http://127.0.0.1:* http://localhost:*",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "; ".join(
        f"{directive} {sources}" for directive, sources in CONTENT_SECURITY_POLICY.items()
    ),
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class DemoSite:
    """The demo page with its signalling, as an async context manager.

    `control_plane` is the base URL of its HTTP API; `port` 0 lets the system choose, `url` then tells. Entering
    raises OSError when the port is taken or a file is missing, and TopologyError for a topology with mistakes.
    """

    def __init__(
        self,
        control_plane: str,
        api_key: str,
        topology: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._control_plane = control_plane
        self._api_key = api_key
        self._topology_path = topology
        self._host = host
        self._port = port
        self._files: Mapping[str, tuple[str, bytes]] = {}
        self._signalling: DemoSignalling
        self._runner: web.AppRunner

    @property
    def url(self) -> str:
        """Where the page is, once started."""
        return f"http://{_bracketed(self._host)}:{self._port}/"

    async def start(self) -> None:
        """Read the page and the topology, and listen."""
        topology = await asyncio.to_thread(_read_topology, self._topology_path)
        self._files = await asyncio.to_thread(_read_files)
        app = web.Application(client_max_size=MAX_BODY, middlewares=[problems, self._own_host_only])
        app.on_response_prepare.append(_add_security_headers)
        self._signalling = DemoSignalling(self._control_plane, self._api_key, topology)
        app.add_routes(self._signalling.routes())
        app.add_routes([web.get(path, self._file) for path in self._files])
        # A closed tab must end its event stream at once, not at the next event.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )
        try:
            await self._runner.setup()
            site = web.TCPSite(self._runner, self._host, self._port)
            await site.start()
            self._port = int(self._runner.addresses[0][1])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the listener and every stream."""
        await self._signalling.close()
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @web.middleware
    async def _own_host_only(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.url.host or ""
        if name not in {"127.0.0.1", "localhost", "::1", self._host}:
            raise ForbiddenError(
                "foreign-host",
                "the demo answers only under a name of this machine",
                f"open {self.url}",
            )
        return await handler(request)

    async def _file(self, request: web.Request) -> web.Response:
        content_type, body = self._files[request.path]
        return web.Response(
            body=body,
            content_type=content_type,
            charset="utf-8",
            headers={"Cache-Control": "no-cache"},
        )


def web_root() -> Path:
    """Return the folder of thalweg.js and demo/: inside an installed package, or in the source tree."""
    package = Path(controlplane.__file__).parent
    packaged = package / "_web"
    return packaged if packaged.is_dir() else package.parent / "web"


def _read_topology(path: Path) -> Topology:
    return parse_topology(path.read_text(encoding="utf-8"), path.name)


def _read_files() -> dict[str, tuple[str, bytes]]:
    """Return URL path → (content type, body) of everything that the page consists of."""
    root = web_root()
    files = {"/thalweg.js": ("text/javascript", (root / "thalweg.js").read_bytes())}
    for path in sorted((root / "demo").iterdir()):
        if content_type := CONTENT_TYPES.get(path.suffix):
            files[f"/{path.name}"] = (content_type, path.read_bytes())
    files["/"] = files.pop("/index.html")
    return files


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

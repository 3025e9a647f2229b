"""A control plane of a few lines: the shapes of the HTTP API, and the nearest probe as its only wisdom."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

API_KEY = "key-of-the-fake"


class FakeControlPlane:
    """An async context manager; `joins` are the bodies it was asked, `rooms` what GET of a room answers."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.nodes = nodes
        self.joins: list[dict[str, Any]] = []
        self.plans: list[Any] = []
        self.rooms: dict[str, dict[str, dict[str, Any]]] = {}
        self.links: list[dict[str, Any]] = []
        self.refusal: tuple[int, dict[str, Any]] | None = None
        """Status and problem of every join, while it is set."""
        self.resumed_after: list[str | None] = []
        """Last-Event-ID of each event stream."""
        self._events: list[bytes] = []
        self._event = asyncio.Condition()
        app = web.Application(middlewares=[_check_key])
        participant = "/v1/rooms/{room}/participants/{participant}"
        app.add_routes(
            [
                web.put(participant, self._join),
                web.delete(participant, self._leave),
                web.get(f"{participant}/decision", self._decision),
                web.get("/v1/rooms/{room}", self._room),
                web.get("/v1/nodes", self._list_nodes),
                web.get("/v1/events", self._stream),
                web.post("/v1/probe-plans", self._probe_plan),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def emit(self, event: str, data: dict[str, Any]) -> None:
        """Append an event to every stream."""
        async with self._event:
            number = len(self._events) + 1
            text = f"id: {number}\nevent: {event}\ndata: {json.dumps(data)}\n\n"
            self._events.append(text.encode())
            self._event.notify_all()

    async def _join(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.joins.append(body)
        if self.refusal:
            status, problem = self.refusal
            headers = {"Retry-After": "3"}
            return web.json_response(
                problem, status=status, headers=headers, content_type="application/problem+json"
            )
        room, participant = request.match_info["room"], request.match_info["participant"]
        best = min(body.get("probes", []), key=lambda probe: min(probe["rtt_ms"]))
        allowed = [n for n in self.nodes if n["id"] not in body.get("exclude_nodes", [])]
        node = next((n for n in allowed if n["region"] == best["region"]), allowed[0])
        members = self.rooms.setdefault(room, {})
        known = members.get(participant)
        members[participant] = {
            "participant": participant,
            "role": "publisher",
            "node": node["id"],
            "region": node["region"],
            "epoch": 1,
            "live": False,
            "rtt_ms": min(best["rtt_ms"]),
            "rtt_source": "probe",
            "assigned_at": 0.0,
            "tracks": [],
        }
        answer = {
            "room": room,
            "participant": participant,
            "session": body["session"],
            "epoch": 1,
            "node": {
                "id": node["id"],
                "region": node["region"],
                "whip_url": f"{node['http_url']}/whip/{room}/{participant}",
                "whep_url": f"{node['http_url']}/whep/{room}/{participant}",
            },
            "token": "token-of-the-fake",
            "ice_servers": [],
            "fallbacks": [],
            "decision": {"because": ["it is the nearest"], "rtt_ms": min(best["rtt_ms"])},
        }
        return web.json_response(answer, status=200 if known else 201)

    async def _leave(self, request: web.Request) -> web.Response:
        members = self.rooms.get(request.match_info["room"], {})
        left = members.pop(request.match_info["participant"], None)
        return web.Response(status=204 if left else 404)

    async def _decision(self, request: web.Request) -> web.Response:
        member = self.rooms[request.match_info["room"]][request.match_info["participant"]]
        candidates = [
            {
                "node": node["id"],
                "region": node["region"],
                "rtt_ms": 5.0 + 90.0 * i,
                "spread_ms": 1.0,
                "rtt_source": "probe",
                "rtt_age_s": 0.0,
                "score": 46.5 + 30.0 * i,
                "terms": {"delay": 45.0 + 8.0 * i, "edge": 1.5 + 22.0 * i, "load": 0.0},
                "refusal": None,
                "refused": {f"{node['region']}-2": "full: 100 % of its 400 places are taken"},
            }
            for i, node in enumerate(
                sorted(self.nodes, key=lambda node: node["id"] != member["node"])
            )
        ]
        return web.json_response(
            {
                "node": member["node"],
                "region": member["region"],
                "decided_at": 0.0,
                "location": None,
                "location_source": "unknown",
                "because": ["the nearest edge: 5 ms by its own probe", "90 ms to the others"],
                "candidates": candidates,
                "others": 1,
            }
        )

    async def _room(self, request: web.Request) -> web.Response:
        members = list(self.rooms.get(request.match_info["room"], {}).values())
        return web.json_response(
            {
                "id": request.match_info["room"],
                "participants": members,
                "cascade": {"links": self.links},
                "delay": {"mean_ms": None, "worst_ms": None},
            }
        )

    async def _list_nodes(self, _request: web.Request) -> web.Response:
        return web.json_response({"nodes": self.nodes})

    async def _probe_plan(self, request: web.Request) -> web.Response:
        self.plans.append(await request.json())
        regions = [
            {"region": n["region"], "url": f"{n['http_url']}/probe", "why": "nearest"}
            for n in self.nodes
        ]
        return web.json_response(
            {"regions": regions, "more": [], "more_above_ms": None, "location": None}
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.resumed_after.append(request.headers.get("Last-Event-ID"))
        sent = int(self.resumed_after[-1] or 0)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        while True:
            async with self._event:
                while sent >= len(self._events):
                    await self._event.wait()
                fresh = self._events[sent:]
            sent += len(fresh)
            for event in fresh:
                await response.write(event)


@web.middleware
async def _check_key(request: web.Request, handler: Any) -> web.StreamResponse:
    if request.headers.get("Authorization") != f"Bearer {API_KEY}":
        return web.json_response({"code": "api-key-missing"}, status=401)
    response: web.StreamResponse = await handler(request)
    return response


def fake_nodes() -> list[dict[str, Any]]:
    """Return one node for each region of regions/demo.yaml; nothing listens at their URLs."""
    return [
        {
            "id": f"{region}-1",
            "region": region,
            "state": "serving",
            "why": "",
            "load": 0.0,
            "participants": 0,
            "capacity": 400,
            "http_url": "http://127.0.0.1:1",
        }
        for region in ("eu-frankfurt", "us-virginia", "ap-singapore")
    ]


async def read_json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the body of an answer that must be a JSON object."""
    body = await response.json(content_type=None)
    assert isinstance(body, dict)
    return body

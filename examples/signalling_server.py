"""The signalling server's side of Thalweg, to copy into yours. Needs THALWEG_URL and THALWEG_API_KEY."""

import os
import re

from aiohttp import ClientSession, ClientTimeout, web

PORT = int(os.environ.get("PORT", "9000"))


async def make_app() -> web.Application:
    key = {"Authorization": f"Bearer {os.environ['THALWEG_API_KEY']}"}  # never leaves this process
    api = ClientSession(os.environ["THALWEG_URL"], headers=key, timeout=ClientTimeout(sock_read=30))

    async def me(request: web.Request) -> web.Response:  # PUT joins (again), DELETE leaves
        if not re.fullmatch("[A-Za-z0-9_-]+", user := request.headers.get("X-User", "")):
            return web.Response(status=400 if user else 401)  # X-User is whom your login found
        asked = await request.json() if request.can_read_body else {}  # these three and no more:
        body = {k: asked[k] for k in ("session", "probes", "exclude_nodes") if k in asked}
        url = f"/v1/rooms/{request.match_info['room']}/participants/{user}"  # no "..", no "/"
        async with api.request(request.method, url, json=body | {"client_ip": request.remote}) as r:
            return web.Response(text=await r.text(), status=r.status, content_type=r.content_type)

    async def events(request: web.Request) -> web.StreamResponse:  # participant.moved and others
        last = {"Last-Event-ID": request.headers.get("Last-Event-ID", "")}
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        async with api.get("/v1/events", params=request.match_info, headers=last) as r:
            async for chunk in r.content.iter_any():
                await stream.write(chunk)
        return stream

    app, room = web.Application(), "/rooms/{room:[A-Za-z0-9_-]+}"
    app.add_routes([web.route("*", room + "/me", me), web.get(room + "/events", events)])
    app.on_cleanup.append(lambda _: api.close())
    return app


web.run_app(make_app(), host="127.0.0.1", port=PORT, handler_cancellation=True)

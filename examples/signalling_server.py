"""The signalling server's side of Thalweg, to copy into yours. Needs THALWEG_URL and THALWEG_API_KEY."""

import os

from aiohttp import ClientSession, ClientTimeout, web


async def make_app() -> web.Application:
    key = {"Authorization": f"Bearer {os.environ['THALWEG_API_KEY']}"}  # never leaves this process
    patience = ClientTimeout(sock_connect=2, sock_read=30)  # event streams speak every 15 s
    thalweg = ClientSession(os.environ["THALWEG_URL"], headers=key, timeout=patience)

    async def me(request: web.Request) -> web.Response:  # PUT joins (again), DELETE leaves
        user = request.headers["X-User"]  # yours: whom your login found, not the client's word
        body = await request.json() if request.can_read_body else {}
        # A client decides these three and no more; its address is the one that you saw.
        body = {k: body[k] for k in ("session", "probes", "exclude_nodes") if k in body}
        url = f"/v1/rooms/{request.match_info['room']}/participants/{user}"
        body["client_ip"] = request.remote
        async with thalweg.request(request.method, url, json=body) as r:
            return web.Response(text=await r.text(), status=r.status, content_type=r.content_type)

    async def events(request: web.Request) -> web.StreamResponse:  # participant.moved and others
        last = {"Last-Event-ID": request.headers.get("Last-Event-ID", "")}
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        async with thalweg.get("/v1/events", params=request.match_info, headers=last) as r:
            async for chunk in r.content.iter_any():
                await stream.write(chunk)
        return stream

    app = web.Application()
    room = "/rooms/{room:[A-Za-z0-9_-]+}"  # it becomes part of a URL: let nothing else in
    app.add_routes([web.route("*", room + "/me", me), web.get(room + "/events", events)])
    app.on_cleanup.append(lambda _: thalweg.close())
    return app


web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "9000")))

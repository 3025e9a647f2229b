"""How to ask at a door, and how a refusal looks."""

import aiohttp

SDP = {"Content-Type": "application/sdp"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def assert_problem(answer: aiohttp.ClientResponse, status: int, code: str) -> None:
    body = await answer.text()
    assert (answer.status, answer.content_type) == (status, "application/problem+json"), body
    problem = await answer.json(content_type=None)
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"] == f"https://thalweg.dev/problems/{code}"
    assert problem["title"]
    assert problem["detail"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert ("Retry-After" in answer.headers) == (status in (429, 503))

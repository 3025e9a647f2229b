"""One address may ask for so much: tokens cost a signature each."""

import aiohttp
import pytest

from tests.relay.api.asking import assert_problem, bearer
from tests.relay.rtc import running_node


async def test_an_address_has_a_budget_for_what_costs_and_probes_are_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.api.asking.REQUESTS_PER_S", 0.001)
    monkeypatch.setattr("relay.api.asking.REQUEST_BURST", 3)
    async with running_node() as node, aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.post(f"{node.url}/whip/r/ana", headers=bearer("x.y.z")) as answer:
                assert answer.status == 401
        async with http.post(f"{node.url}/whip/r/ana", headers=bearer("x.y.z")) as answer:
            await assert_problem(answer, 429, "too_many_requests")
            assert answer.headers["Retry-After"] == "1"
        for path in ("/probe", "/healthz", "/readyz"):
            async with http.get(node.url + path) as answer:
                assert answer.status in (200, 204), path

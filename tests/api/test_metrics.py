"""/metrics: right numbers, and a number of series that traffic cannot grow."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.api.fake_relay import relays
from tests.api.harness import Api, running, settings


def series(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_numbers_and_labels(api: Api) -> None:
    async with relays(api, "eu-frankfurt") as (node,):
        node.refusal = "no such trunk"
        for number in range(3):
            assert (await api.join(f"room-{number}", "ana")).status == 201
        await api.join("room-0", "ana")
        await api.join("room-0", "bo", require={"residency": ["mars"]})
        found = series((await api.call("GET", "/metrics")).text)
        assert found["thalweg_joins_total", (("result", "created"),)] == 3
        assert found["thalweg_joins_total", (("result", "repeated"),)] == 1
        assert found["thalweg_joins_total", (("result", "residency-unsatisfied"),)] == 1
        assert found["thalweg_decision_seconds_count", ()] == 5
        assert found["thalweg_nodes", (("state", "serving"),)] == 1
        assert found["thalweg_participants", ()] == 3
        assert found["thalweg_rooms", ()] == 3
        assert found["thalweg_node_sessions", ()] == 1
        assert found["thalweg_snapshots_total", (("result", "sent"),)] >= 1
        assert found["thalweg_snapshots_total", (("result", "acked"),)] >= 1
        assert found["thalweg_events", ()] >= 4
        assert found["thalweg_learned_networks", ()] == 0
        for name in ("rehomes", "rehoming_rooms_looked_at", "rehoming_rooms_dropped"):
            assert found[f"thalweg_{name}_total", ()] == 0

        for number in range(20):
            await api.join(f"another-{number}", f"p-{number}")
        assert set(series((await api.call("GET", "/metrics")).text)) <= set(found) | {
            ("thalweg_joins_total", (("result", "no-capacity"),)),
            ("thalweg_joins_created", (("result", "no-capacity"),)),
        }


async def test_it_can_be_opened(tls_dir: Path) -> None:
    async with running(settings(tls_dir, open_metrics=True)) as api:
        assert (await api.call("GET", "/metrics", key=None)).status == 200

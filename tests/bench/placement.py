"""How good placement is: rooms of measured round trips, joined one by one, against what full knowledge would do.

    python -m tests.bench.placement --data FOLDER [--rooms N] [--choices N] [--seed N]

Each figure stands beside its goal. `cold` is a fleet that never saw the clients' networks before, `warm` one that
carried as many rooms of the same networks already. The data folder (or the variable THALWEG_DATA) holds cloud_*.csv
and azure_*.csv; without it nothing is measured.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.core.model import ParticipantId, RoomId
from controlplane.simulation.baselines import FIRST, NEAREST, OPTIMUM, PLACEMENT, PURE, SINGLE
from controlplane.simulation.inputs import Op, TraceEvent
from controlplane.simulation.replay import Replay, Settings
from controlplane.simulation.summary import Comparison
from controlplane.simulation.truth import cases_of
from tests.bench.placement_data import (
    SPREADS,
    MadeRoom,
    Study,
    client_rtts,
    load_studies,
    make_rooms,
    trace_of,
)

ALL = "all"
SETTINGS = Settings(report_interval_s=10.0)

ALONE_FROM_S = 500_000.0
"""When the single participants join: after every room, and before a week has passed."""


@dataclass(slots=True)
class Cell:
    """Everything of one spread: room means in milliseconds by way, and shares."""

    means: dict[str, list[float]] = field(default_factory=dict)
    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """(pairs, pairs over 150 ms) by way."""
    edges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    sfus: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    moves: list[int] = field(default_factory=list)

    def mean(self, way: str) -> float:
        """Return the mean over rooms of the rooms' mean delay."""
        return statistics.fmean(self.means[way])


@dataclass(slots=True)
class Outcome:
    """What one variant came to."""

    cells: dict[str, Cell] = field(default_factory=dict)
    joins: int = 0
    probes: int = 0
    gains: list[float] = field(default_factory=list)
    over_oracle: list[float] = field(default_factory=list)
    replay_s: float = 0.0
    replayed: int = 0

    def cell(self, name: str) -> Cell:
        """Return the cell of a spread."""
        return self.cells.setdefault(name, Cell())

    def over_single(self) -> dict[str, tuple[float, float]]:
        """Return, by spread, placement's and the best single SFU's mean delay, summed up over rooms."""
        return {
            name: (sum(cell.means[PLACEMENT]), sum(cell.means[SINGLE]))
            for name, cell in self.cells.items()
            if name != ALL
        }


def measure(
    studies: Iterable[Study], *, each: int, blur: str, warm: bool, seed: int, into: Outcome
) -> None:
    """Replay each study's rooms and score them; warm fleets have carried as many others before."""
    for study in studies:
        rooms = make_rooms(study, each=each * (1 + warm), blur=blur, warm=warm, seed=seed)
        counted = {room.id: room.spread for room in rooms[len(rooms) // 2 if warm else 0 :]}
        replay = Replay(study.topology, study.region_rtt, client_rtts(study, rooms), SETTINGS)
        began = time.process_time()
        steps = [replay.step(event) for event in trace_of(rooms)]
        into.replay_s += time.process_time() - began
        into.replayed += len(steps)
        for step in steps:
            if step.event.room in counted:
                into.joins += 1
                into.probes += len(step.probed)
                into.gains += [move.gain_ms for move in step.moves]
        _score(study, rooms, counted, replay, into)
        _singles(study, rooms, replay if warm else None, into)


def _score(
    study: Study,
    rooms: Sequence[MadeRoom],
    counted: dict[RoomId, str],
    replay: Replay,
    into: Outcome,
) -> None:
    matrix = replay.fleet.world.region_rtt
    records = [record for record in replay.records() if record.first.room in counted]
    for case in cases_of(records, client_rtts(study, rooms), seed=1).rooms:
        one = Comparison(study.topology, matrix)
        means = one.add(case)
        found = one.result()
        assert found is not None
        for name in (counted[RoomId(case.room)], ALL):
            cell = into.cell(name)
            cell.moves.append(case.moves)
            for way, figures in found.figures.items():
                cell.means.setdefault(way, []).append(means[way])
                cell.pairs.setdefault(way, []).append(
                    (figures.pairs, figures.pairs * figures.over_150)
                )
                cell.edges.setdefault(way, []).append(
                    (case.people, case.people * figures.edges_over_100)
                )
                cell.sfus.setdefault(way, []).append((1, figures.sfus_per_room))


def _singles(study: Study, rooms: Sequence[MadeRoom], warm: Replay | None, into: Outcome) -> None:
    """Let people join rooms of their own: how much farther is their edge than the nearest."""
    replay = warm or Replay(study.topology, study.region_rtt, client_rtts(study, rooms), SETTINGS)
    people = [(room, person) for room in rooms for person in room.people]
    for number, (room, person) in enumerate(people):
        alone = RoomId(f"alone-{room.id}-{person.participant}")
        t = ALONE_FROM_S + number / 100
        step = replay.step(
            TraceEvent(t, Op.JOIN, alone, ParticipantId("p"), person.client, person.location)
        )
        assert step.region is not None
        truth = study.sites[person.site]
        into.over_oracle.append(truth[step.region] - min(truth.values()))


# --- the report ---------------------------------------------------------------------------------


def _share(counted: Sequence[tuple[float, float]]) -> float:
    """Return the share in percent of what was counted as (all, those)."""
    return 100 * sum(those for _, those in counted) / sum(all_ for all_, _ in counted)


def _row(name: str, cell: Cell) -> str:
    ours, best = cell.mean(PLACEMENT), cell.mean(OPTIMUM)
    return (
        f"  {name:<11}{ours:7.1f} ms  "
        f"{ours / best:6.3f}  {ours / cell.mean(PURE):6.3f}  {ours / cell.mean(SINGLE):6.3f}  "
        f"{ours / cell.mean(NEAREST):6.3f}  {ours / cell.mean(FIRST):6.3f}  "
        f"{_share(cell.pairs[PLACEMENT]) - _share(cell.pairs[OPTIMUM]):+6.2f}  "
        f"{_share(cell.edges[PLACEMENT]) - _share(cell.edges[OPTIMUM]):+6.2f}  "
        f"{statistics.fmean(cell.moves):6.2f}  "
        f"{_share(cell.sfus[PLACEMENT]) / 100:5.2f} ({_share(cell.sfus[OPTIMUM]) / 100:.2f})"
    )


HEAD = (
    "               mean     /best   /delay  /single  /near   /first   >150    >100   moves   SFUs\n"
    "  goals                <=1.02           <=1.03                   <=1      <=1     <=0.7"
)


def tell(title: str, outcome: Outcome) -> str:
    """Return a variant's figures, one line per spread."""
    lines = [
        f"placement, {title}: {len(outcome.cells[ALL].moves)} rooms, {outcome.joins} joins",
        HEAD,
    ]
    lines += [_row(name, outcome.cells[name]) for name in (*SPREADS, ALL) if name in outcome.cells]
    over = outcome.over_oracle
    off = 100 * sum(value > 20 for value in over) / len(over)
    lines.append(
        f"  probes per join {outcome.probes / outcome.joins:.2f} (goal 3.5); "
        f"smallest gain of a move {min(outcome.gains, default=float('nan')):.2f} ms (goal 3); "
        f"{outcome.replayed / max(outcome.replay_s, 1e-9):.0f} joins/s replayed (goal 2000)"
    )
    lines.append(
        f"  {len(over)} single participants: {statistics.fmean(over):.2f} ms over the nearest edge (goal 1.5), "
        f"{off:.2f} % more than 20 ms off (goal 2.5)"
    )
    return "\n".join(lines)


def _tell_together(outcomes: Sequence[Outcome]) -> str:
    """Return all variants against the best single SFU: few rooms of a spread carry it, so each alone is noisy."""
    totals: dict[str, tuple[float, float]] = {}
    for outcome in outcomes:
        for name, (ours, single) in outcome.over_single().items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = before[0] + ours, before[1] + single
    rooms = sum(len(outcome.cells[ALL].moves) for outcome in outcomes)
    ratios = ", ".join(f"{name} {ours / single:.3f}" for name, (ours, single) in totals.items())
    return f"placement, all {rooms} rooms, over the best single SFU (goal 1.03): {ratios}"


def report(data: Path | None = None, *, each: int = 6, choices: int = 3, seed: int = 1) -> str:
    """Return the figures of all variants."""
    folder = data or os.environ.get("THALWEG_DATA")
    if folder is None or not (Path(folder) / "cloud_rtt.csv").exists():
        return "placement: skipped: no data (THALWEG_DATA names a folder with cloud_*.csv and azure_*.csv)"
    studies = load_studies(Path(folder), choices=choices, seed=seed)
    parts: list[str] = []
    outcomes: list[Outcome] = []
    for warm in (False, True):
        for blur in ("dbip", "geolite2"):
            outcome = Outcome()
            measure(studies, each=each, blur=blur, warm=warm, seed=seed, into=outcome)
            parts.append(tell(f"{'warm' if warm else 'cold'}, places as {blur} has them", outcome))
            outcomes.append(outcome)
    parts.append(_tell_together(outcomes))
    return "\n".join(parts)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description="Placement against full knowledge.")
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--rooms", type=int, default=6, help="rooms of each spread and size, per study"
    )
    parser.add_argument("--choices", type=int, default=3, help="choices of regions per matrix")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(report(asked.data, each=asked.rooms, choices=asked.choices, seed=asked.seed))  # noqa: T201


if __name__ == "__main__":
    main()

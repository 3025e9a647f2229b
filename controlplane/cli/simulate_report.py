"""A simulation's summary as tables for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from controlplane.cli.output import table_of
from controlplane.simulation.baselines import OPTIMUM, PLACEMENT, TITLES
from controlplane.simulation.summary import Summary, busiest_region
from controlplane.simulation.truth import Figures

_COLUMNS = ("MEAN", "P95", ">150 ms", "EDGE", "EDGES >100 ms", "SFUS", "TO OPTIMUM")

GOOD_TO_OPTIMUM = 1.03
"""Mean delay over that of the optimum up to which it is green."""


def print_summary(console: Console, name: str, summary: Summary) -> None:
    """Print what a replay came to: placement beside the baselines, then the rest in a few lines."""
    console.print(f"[bold]{escape(name)}[/]: {_what_happened(summary)}")
    figures = summary.placement
    if figures is None:
        console.print("  no room had two people whose round trips are known: nothing to score")
        return
    table = table_of("", *_COLUMNS, right=_COLUMNS)
    compared = summary.compared
    best = compared.figures[OPTIMUM].mean_ms if compared else None
    if compared is None or compared.rooms < figures.rooms:
        table.add_row(f"placement, all {figures.rooms:,} rooms", *_cells(figures, None))
    if compared is not None:
        for way, one in compared.figures.items():
            style = "bold" if way == PLACEMENT else ""
            table.add_row(TITLES[way], *_cells(one, best), style=style)
    console.print(table)
    console.print(f"[dim]{_how_counted(summary)}[/]")
    console.print(_load(summary))


def _what_happened(summary: Summary) -> str:
    counts = summary.counts
    parts = [
        f"{counts.joins:,} joins, {counts.leaves:,} leaves, {summary.rooms:,} rooms of two or more",
        f"{summary.probes_per_join:.2f} probes a join",
        f"{summary.moves_per_room:.2f} moves a room",
    ]
    if counts.smallest_gain_ms is not None:
        parts[-1] += f" (each gained its room {counts.smallest_gain_ms:.1f} ms or more)"
    if counts.refused:
        parts.append(f"[red]{counts.refused:,} joins refused[/]")
    if counts.unknown_leaves:
        parts.append(f"[yellow]{counts.unknown_leaves:,} leaves of people who were not there[/]")
    if summary.unknown:
        parts.append(f"[yellow]{summary.unknown:,} rooms without known round trips[/]")
    return "; ".join(parts)


def _cells(figures: Figures, best: float | None) -> list[str]:
    ratio = "" if not best else f"{figures.mean_ms / best:.3f}"
    if best and figures.mean_ms / best <= GOOD_TO_OPTIMUM:
        ratio = f"[green]{ratio}[/]"
    return [
        f"{figures.mean_ms:.1f} ms",
        f"{figures.p95_ms:.0f} ms",
        f"{figures.over_150 * 100:.1f} %",
        f"{figures.edge_mean_ms:.1f} ms",
        f"{figures.edges_over_100 * 100:.1f} %",
        f"{figures.sfus_per_room:.2f}",
        ratio,
    ]


def _how_counted(summary: Summary) -> str:
    compared = summary.compared
    rooms = "" if compared is None else f" {compared.rooms:,} rooms in every way, the same ones;"
    return (
        f"{rooms} each as it was at its fullest. Delay: one way between two people, SFUs included. "
        "Edge: round trip to one's SFU."
    ).strip()


def _load(summary: Summary) -> str:
    busiest = busiest_region(summary.spreads)
    if busiest is None:
        return "Load: no region has more than one node and people."
    one = summary.spreads[busiest]
    return (
        f"Load: {escape(busiest)} had {one.people:,} people on {one.nodes} nodes at its fullest, the fullest node "
        f"{one.fullest:,}: {one.ratio:.2f} of the mean."
    )


# --- two topologies -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """One figure of two topologies; smaller is better in all of them."""

    name: str
    """In JSON."""
    title: str
    before: float
    after: float
    unit: str
    digits: int = 1

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f}{self.unit}"


def compared(before: Summary, after: Summary) -> dict[str, Any]:
    """Return after minus before for every figure that JSON has, in its units."""
    return {
        line.name: round((line.after - line.before) / (100 if line.unit == " %" else 1), 4)
        for line in _lines(before, after)
    }


def print_comparison(console: Console, names: Sequence[str], summaries: Sequence[Summary]) -> None:
    """Print what the second topology changes, figure by figure."""
    console.print(f"\n[bold]{escape(names[0])} → {escape(names[1])}[/]")
    table = table_of("", "BEFORE", "AFTER", "CHANGE", right=("BEFORE", "AFTER", "CHANGE"))
    for line in _lines(summaries[0], summaries[1]):
        table.add_row(
            line.title,
            line.text(line.before),
            line.text(line.after),
            _change(line),
        )
    console.print(table)


def _change(line: _Line) -> Text:
    change = round(line.after - line.before, line.digits)
    if not change:
        return Text("=", style="dim")
    arrow, colour = ("▼", "green") if change < 0 else ("▲", "red")
    return Text(f"{arrow} {line.text(abs(change))}", style=colour)


def _lines(before: Summary, after: Summary) -> list[_Line]:
    lines = []
    if before.placement is not None and after.placement is not None:
        a, b = before.placement, after.placement
        lines = [
            _Line("mean_ms", "delay, mean", a.mean_ms, b.mean_ms, " ms"),
            _Line("p95_ms", "delay, 95th of 100", a.p95_ms, b.p95_ms, " ms", 0),
            _Line("over_150", "pairs over 150 ms", a.over_150 * 100, b.over_150 * 100, " %", 2),
            _Line("edge_mean_ms", "edge, mean", a.edge_mean_ms, b.edge_mean_ms, " ms"),
            _Line(
                "edges_over_100",
                "edges over 100 ms",
                a.edges_over_100 * 100,
                b.edges_over_100 * 100,
                " %",
                2,
            ),
            _Line("sfus_per_room", "SFUs a room", a.sfus_per_room, b.sfus_per_room, "", 2),
        ]
    return [
        *lines,
        _Line("moves_per_room", "moves a room", before.moves_per_room, after.moves_per_room, "", 2),
        _Line(
            "probes_per_join", "probes a join", before.probes_per_join, after.probes_per_join, "", 2
        ),
        _Line("refused", "joins refused", before.counts.refused, after.counts.refused, "", 0),
    ]

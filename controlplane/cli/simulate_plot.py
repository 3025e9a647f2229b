"""A simulation as a picture: where people and their edges are, how long their delays, beside other ways to place them.

Needs matplotlib, which the extra `plot` brings; nothing else imports this file.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from controlplane.core.model import Location, Region, RegionId
from controlplane.simulation.baselines import (
    FIRST,
    NEAREST,
    OPTIMUM,
    PLACEMENT,
    PURE,
    SINGLE,
    TITLES,
)
from controlplane.simulation.run import Outcome
from controlplane.simulation.truth import LONG_DELAY_MS, Case

INK, SOFT, PAPER, SEA = "#1b2a38", "#6b7b88", "#ffffff", "#f1f5f8"
COLOURS = {
    PLACEMENT: "#d1495b", OPTIMUM: "#1b2a38", SINGLE: "#00798c", NEAREST: "#edae49", FIRST: "#8d99a6",
}  # fmt: skip
AFTER = "#7b2d8b"
"""Placement with the other topology."""

OURS = "Thalweg"

MAX_DOTS = 4000
"""People who are drawn; more would only be black."""

ARC_STEPS = 48

FAR_MS = 10_000.0
"""Where every curve ends: off the picture."""

MAX_LINKS = 60
"""Pairs of regions whose links are drawn, the most used first."""


def draw(found: Mapping[str, Outcome], file: Path) -> None:
    """Write the picture of one topology, or of two of which the second is the change."""
    figure = Figure(
        figsize=(13, 8.6), facecolor=PAPER, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    )
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=(1.25, 1))
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    names = list(found)
    outcome = found[names[-1]]
    _map(top.subplots(), outcome, _new_regions(found))
    left, right = bottom.subplots(1, 2, width_ratios=(1.35, 1))
    _delays(left, found)
    _bars(right, found)
    placement = outcome.summary.placement
    title = " → ".join(names) + f": {outcome.summary.counts.joins:,} joins"
    if placement is not None:
        title += f", {placement.rooms:,} rooms, {placement.mean_ms:.0f} ms between two people"
    figure.suptitle(title, fontsize=15, fontweight="bold", color=INK, x=0.012, ha="left")
    figure.savefig(file, dpi=130)


def _new_regions(found: Mapping[str, Outcome]) -> frozenset[RegionId]:
    first, *others = (frozenset(one.topology.regions) for one in found.values())
    return frozenset[RegionId]().union(*others) - first


Box = tuple[float, float, float, float]
"""West, east, south, north."""


# --- the map ------------------------------------------------------------------------------------


def _map(axes: Axes, outcome: Outcome, new: frozenset[RegionId]) -> None:
    """Draw regions sized by their people, and lines as thick as rooms use them."""
    axes.set_facecolor(SEA)
    axes.set(xlim=(-180, 180), ylim=(-56, 80), xticks=[], yticks=[])
    axes.hlines(range(-30, 61, 30), -180, 180, color=PAPER, linewidth=1, zorder=0)
    axes.vlines(range(-150, 151, 30), -56, 80, color=PAPER, linewidth=1, zorder=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    dots = _dots(outcome.cases.rooms)
    axes.scatter(
        [one.lon for one in dots], [one.lat for one in dots],
        s=7, color=SOFT, alpha=0.35, linewidths=0, zorder=1,
    )  # fmt: skip
    regions = outcome.topology.regions
    used = _links(outcome.cases.rooms).most_common(MAX_LINKS)
    for (a, b), rooms in used:
        share = rooms / used[0][1]
        _line(axes, regions[a].location, regions[b].location, share)
    people = {region: one.people for region, one in outcome.summary.spreads.items()}
    most = max(people.values(), default=1)
    for id_, region in regions.items():
        size = 30 + 900 * people.get(id_, 0) / most
        colour = AFTER if id_ in new else COLOURS[PLACEMENT]
        empty = id_ not in people
        axes.scatter(
            region.location.lon, region.location.lat, s=size, zorder=3, alpha=0.9,
            color=PAPER if empty else colour, edgecolors=colour if empty else PAPER, linewidths=1.2,
        )  # fmt: skip
    _name_regions(axes, list(regions.values()), people, most)
    axes.text(
        -178, -54, "circles: people at the busiest moment; lines: rooms that use both regions; dots: people",
        fontsize=8.5, color=SOFT, va="bottom",
    )  # fmt: skip


def _dots(cases: Sequence[Case]) -> list[Location]:
    places = [place for case in cases for place in case.locations if place is not None]
    return places[:: max(1, -(-len(places) // MAX_DOTS))]


def _links(cases: Sequence[Case]) -> Counter[tuple[RegionId, RegionId]]:
    used: Counter[tuple[RegionId, RegionId]] = Counter()
    for case in cases:
        regions = sorted({region for region, _ in case.seats})
        used.update((a, b) for i, a in enumerate(regions) for b in regions[i + 1 :])
    return used


def _line(axes: Axes, a: Location, b: Location, share: float) -> None:
    """Draw a link along the great circle, in two parts when it leaves the map at one side."""
    parts: list[list[tuple[float, float]]] = [[]]
    for lon, lat in _great_circle(a, b):
        if parts[-1] and abs(lon - parts[-1][-1][0]) > 180:
            parts.append([])
        parts[-1].append((lon, lat))
    for part in parts:
        axes.plot(
            [lon for lon, _ in part], [lat for _, lat in part], color=INK, zorder=2,
            alpha=0.10 + 0.4 * share, linewidth=0.5 + 3.5 * share, solid_capstyle="round",
        )  # fmt: skip


def _great_circle(a: Location, b: Location) -> list[tuple[float, float]]:
    """Return points (longitude, latitude) on the shortest way between two places."""
    start, end = _vector(a), _vector(b)
    angle = math.acos(max(-1.0, min(1.0, sum(x * y for x, y in zip(start, end, strict=True)))))
    if angle < 1e-6:
        return []
    points = []
    for step in range(ARC_STEPS + 1):
        share = step / ARC_STEPS
        near, far = math.sin((1 - share) * angle), math.sin(share * angle)
        x, y, z = (near * one + far * other for one, other in zip(start, end, strict=True))
        points.append(
            (math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y))))
        )
    return points


def _vector(place: Location) -> tuple[float, float, float]:
    lat, lon = math.radians(place.lat), math.radians(place.lon)
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


def _name_regions(
    axes: Axes, regions: Sequence[Region], people: Mapping[RegionId, int], most: int
) -> None:
    """Write names beside the circles, the busiest first; one that would cover another is left out."""
    taken = [_circle_box(one, people, most) for one in regions]
    for region in sorted(regions, key=lambda one: (-people.get(one.id, 0), one.id)):
        radius, at, width = _radius(region, people, most), region.location, 2.0 * len(region.title)
        for x, anchor, left in (
            (at.lon + radius + 0.5, "left", at.lon + radius + 0.5),
            (at.lon - radius - 0.5, "right", at.lon - radius - 0.5 - width),
        ):
            box = (left, left + width, at.lat - 2.2, at.lat + 2.2)
            outside = box[0] < -180 or box[1] > 180
            if outside or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            text = axes.text(
                x, at.lat, region.title, ha=anchor, va="center", fontsize=9, color=INK, zorder=4
            )
            text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground=SEA)])
            break


def _circle_box(region: Region, people: Mapping[RegionId, int], most: int) -> Box:
    radius, at = _radius(region, people, most), region.location
    return at.lon - radius, at.lon + radius, at.lat - 0.6 * radius, at.lat + 0.6 * radius


def _radius(region: Region, people: Mapping[RegionId, int], most: int) -> float:
    """Return a circle's radius in degrees of longitude, about."""
    return math.sqrt(30 + 900 * people.get(region.id, 0) / most) / 5.6


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


# --- the figures --------------------------------------------------------------------------------


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c8d1d8")
    axes.tick_params(colors=SOFT, labelsize=9)


def _delays(axes: Axes, found: Mapping[str, Outcome]) -> None:
    """Draw which share of the pairs has at most which delay."""
    curves = _curves(found)
    reach = 0.0
    for label, colour, points in curves:
        xs = [*(x for x, _ in points), FAR_MS]
        ys = [*(100 * y for _, y in points), 100.0]
        style = "--" if label == TITLES[OPTIMUM] else "-"
        bold, above = label.startswith(OURS), 1 if style == "--" else 0
        axes.plot(xs, ys, style, color=colour, label=label, linewidth=2.6 if bold else 1.5,
                  zorder=4 if bold else 3 + 2 * above)  # fmt: skip
        reach = max(reach, next((x for x, y in points if y >= 0.985), 0.0))
    axes.axvline(LONG_DELAY_MS, color=SOFT, linewidth=0.8, linestyle=":")
    axes.text(LONG_DELAY_MS, 3, " 150 ms: people talk\n over one another", fontsize=8.5, color=SOFT)
    axes.set(xlim=(0, max(reach, 1.15 * LONG_DELAY_MS)), ylim=(0, 101))
    axes.set_xlabel("delay between two people, one way, ms", color=SOFT, fontsize=9)
    axes.grid(color="#e6ebef", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9, loc="center right", labelcolor=INK)
    _tidy(axes, "Share of pairs within a delay, %")


Curve = tuple[str, str, Sequence[tuple[float, float]]]


def _curves(found: Mapping[str, Outcome]) -> list[Curve]:
    """Return label, colour and points: placement of every topology, then the baselines of the last."""
    names = list(found)
    curves: list[Curve] = []
    for name, outcome in found.items():
        changed = len(names) > 1 and name == names[-1]
        label = OURS + (f", {name}" if len(names) > 1 else "")
        compared = outcome.summary.compared
        points = compared.distributions[PLACEMENT] if compared else outcome.summary.distribution
        curves.append((label, AFTER if changed else COLOURS[PLACEMENT], points))
    compared = found[names[-1]].summary.compared
    if compared is not None:
        ways = (OPTIMUM, SINGLE, NEAREST, FIRST)
        curves += [(TITLES[way], COLOURS[way], compared.distributions[way]) for way in ways]
    return curves


def _bars(axes: Axes, found: Mapping[str, Outcome]) -> None:
    """Draw mean delay and what a repair at the edge costs, per way of placing."""
    names = list(found)
    rows: list[tuple[str, str, float, float, float]] = []
    for name, outcome in found.items():
        changed = len(names) > 1 and name == names[-1]
        compared = outcome.summary.compared
        one = compared.figures[PLACEMENT] if compared else outcome.summary.placement
        if one is not None:
            label = f"Thalweg, {name}" if len(names) > 1 else OURS
            colour = AFTER if changed else COLOURS[PLACEMENT]
            rows.append((label, colour, one.mean_ms, one.edge_mean_ms, one.sfus_per_room))
    compared = found[names[-1]].summary.compared
    if compared is not None:
        rows += [
            (TITLES[way], COLOURS[way], one.mean_ms, one.edge_mean_ms, one.sfus_per_room)
            for way, one in compared.figures.items()
            if way not in (PLACEMENT, PURE)
        ]
    for row, (_, colour, delay, edge, sfus) in enumerate(rows):
        axes.barh(row - 0.19, delay, 0.36, color=colour)
        axes.barh(row + 0.19, edge, 0.36, color=colour, alpha=0.38)
        axes.text(delay, row - 0.19, f" {delay:.0f} ms", va="center", fontsize=8.5, color=INK)
        note = f" {edge:.0f} ms to the edge, {sfus:.1f} SFUs a room"
        axes.text(edge, row + 0.19, note, va="center", fontsize=8.5, color=SOFT)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * max((max(delay, edge) for _, _, delay, edge, _ in rows), default=1.0))
    axes.set_xticks([])
    if len(names) > 1 and compared is not None:
        axes.set_xlabel(f"the other ways are with {names[-1]}", color=SOFT, fontsize=9, loc="left")
    _tidy(axes, "Mean delay, and round trip to one's edge")
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK, length=0)
    axes.spines["bottom"].set_visible(False)

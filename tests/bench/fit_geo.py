"""Fit the distance model of controlplane/core/geo.py to measured round trips.

    THALWEG_DATA=FOLDER python -m tests.bench.fit_geo

FOLDER holds pairs of SITES.csv (first column the name, then `lat` and `lon` somewhere) and RTT.csv (src, dst and
the round trip in milliseconds), as cloud_sites.csv/cloud_rtt.csv and azure_regions.csv/azure_rtt.csv. For each it
prints least squares over all pairs and over the near ones, a fit whose base fades in with distance and whose errors
count in proportion (so that near pairs are not drowned by far ones), and how far the truth lies from the model of
today and from that fit, by distance.
"""

import csv
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from math import log, sqrt
from pathlib import Path

from controlplane.core.geo import client_rtt_ms, great_circle_km
from controlplane.core.model import Location

DATA = "THALWEG_DATA"
MATRICES = {
    "cloud": ("cloud_sites.csv", "cloud_rtt.csv", "avg_ms"),
    "azure": ("azure_regions.csv", "azure_rtt.csv", "p50_ms"),
}
BINS_KM = (0, 300, 700, 1200, 2000, 3000, 5000, 8000, 11_000, 15_000, 20_100)
NEAR_KM = 3000
FLOOR_MS = 2.0
"""Between two data centres of one city."""

BASES_MS = range(0, 41, 4)
SLOPES_MS = [tenths / 10 for tenths in range(100, 200, 5)]
FADES_KM = (500, 1000, 2000, 3000, 4000, 5000)
OUTLIER = 9.0
"""Squared error, in standard deviations, above which a pair counts no more: a detour, not the model's fault."""

Pair = tuple[float, float]
"""Kilometres, milliseconds."""

Model = Callable[[float], float]


def pairs(folder: Path, sites: str, rtts: str, column: str) -> Iterator[Pair]:
    """Yield distance and round trip of every ordered pair of two sites."""
    with (folder / sites).open(newline="") as file:
        rows = list(csv.reader(file))
    lat, lon = rows[0].index("lat"), rows[0].index("lon")
    places = {row[0]: Location(float(row[lat]), float(row[lon])) for row in rows[1:] if row[lat]}
    with (folder / rtts).open(newline="") as file:
        for row in csv.DictReader(file):
            here, there = places.get(row["src"]), places.get(row["dst"])
            if here and there and row["src"] != row["dst"]:
                yield great_circle_km(here, there), float(row[column])


def line(found: Sequence[Pair]) -> tuple[float, float, float]:
    """Return base (ms), slope (ms per 1000 km) and root mean square error (ms) of the least squares line."""
    fit = statistics.linear_regression(*zip(*found, strict=True))
    errors = [rtt - fit.intercept - fit.slope * km for km, rtt in found]
    return fit.intercept, fit.slope * 1000, sqrt(statistics.fmean(e * e for e in errors))


def fading(base: float, slope: float, fade: float) -> Model:
    """Return a model whose base is whole from `fade` km on."""
    return lambda km: FLOOR_MS + base * min(1.0, km / fade) + slope * km / 1000


def proportional(found: Sequence[Pair]) -> tuple[float, float, float]:
    """Return base, slope and fade of the model that makes the measurements likeliest.

    Errors have a deviation of 5 ms and a fifth of the model's value.
    """

    def unlikeliness(parameters: tuple[float, float, float]) -> float:
        model, total = fading(*parameters), 0.0
        for km, rtt in found:
            expected = model(km)
            deviation = 5 + 0.2 * expected
            total += min(OUTLIER, ((rtt - expected) / deviation) ** 2) + 2 * log(deviation)
        return total

    return min(product(BASES_MS, SLOPES_MS, FADES_KM), key=unlikeliness)


def errors(found: Sequence[Pair], model: Model, low: float, high: float) -> str:
    """Return mean, deviation and the quantiles of the error's size, for one range of distances."""
    off = [rtt - model(km) for km, rtt in found if low <= km < high]
    sizes = statistics.quantiles([abs(one) for one in off], n=10)
    return (
        f"{statistics.fmean(off):+6.1f} ±{statistics.pstdev(off):5.1f}, "
        f"half {sizes[4]:5.1f}, nine tenths {sizes[8]:5.1f}"
    )


def study(name: str, found: Sequence[Pair]) -> Iterator[str]:
    """Yield the lines about one matrix."""
    base, slope, rms = line(found)
    yield f"{name}: {len(found)} pairs; least squares {base:.1f} ms + {slope:.1f} ms per 1000 km, error {rms:.1f} ms"
    base, slope, rms = line([one for one in found if one[0] < NEAR_KM])
    yield f"  below {NEAR_KM} km {base:.1f} ms + {slope:.1f} ms per 1000 km, error {rms:.1f} ms"
    parameters = proportional(found)
    base, slope, fade = parameters
    yield (
        f"  proportional {FLOOR_MS:.0f} ms + {base:.0f} ms fading in over {fade:.0f} km "
        f"+ {slope:.1f} ms per 1000 km"
    )
    for low, high in pairwise(BINS_KM):
        count = sum(low <= km < high for km, _ in found)
        if count >= 10:
            now = errors(found, client_rtt_ms, low, high)
            then = errors(found, fading(*parameters), low, high)
            yield f"  {low:6}-{high:5} km, {count:4} pairs: today {now}; proportional {then}"


def main() -> int:
    """Print the study of every matrix that is there."""
    folder = os.environ.get(DATA)
    if not folder:
        print(f"skipped: {DATA} names no folder with measured round trips", file=sys.stderr)  # noqa: T201
        return 2
    for name, files in MATRICES.items():
        for text in study(name, list(pairs(Path(folder), *files))):
            print(text)  # noqa: T201 - this is what the command is for
    return 0


if __name__ == "__main__":
    sys.exit(main())

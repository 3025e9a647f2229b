"""Time two ways of doing the same, in turns."""

import statistics
import time
from collections.abc import Callable

ROUNDS = 9


def medians(work: dict[str, Callable[[], None]], *, per_round: int) -> dict[str, float]:
    """Return name → median microseconds of CPU time per operation; each callable does `per_round` of them."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for run in work.values():
        run()  # warm caches and allocators
    for _ in range(ROUNDS):
        for name, run in work.items():
            began = time.process_time()
            run()
            samples[name].append((time.process_time() - began) / per_round * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}

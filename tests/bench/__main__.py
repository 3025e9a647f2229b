"""`make bench`: measure, and print each figure as a ratio to a peer that ran beside it.

Figures of a shared machine mean little by themselves; ratios of one run mean more. Every figure is the median of
several rounds in which ours and the peer's take turns.

    python -m tests.bench [--seconds N] [--full] [NAME...]
"""

import argparse
from collections.abc import Callable, Mapping

from tests.bench import (
    forwarding,
    fuzz,
    herding,
    joining,
    junk,
    learned,
    placement,
    scale,
    serving,
    state,
)

REPORTS: Mapping[str, Callable[..., str]] = {
    "forwarding": forwarding.report,
    "joining": joining.report,
    "herding": herding.report,
    "learned": learned.report,
    "placement": placement.report,
    "scale": scale.report,
    "serving": serving.report,
    "state": state.report,
}

LASTING: Mapping[str, Callable[..., str]] = {"junk": junk.report, "fuzz": fuzz.report}
"""Those that go on for --seconds: `junk` in all, `fuzz` for each parser."""


def main() -> None:
    """Run what is named, or everything, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--seconds", type=int, help="how long junk and fuzz go on")
    parser.add_argument("--full", action="store_true", help="scale with all of its thousand nodes")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join({**REPORTS, **LASTING}))
    given = parser.parse_args()
    unknown = set(given.names) - {*REPORTS, *LASTING}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in given.names or (*REPORTS, *LASTING):
        how: dict[str, int] = {}
        if given.seconds is not None and name in LASTING:
            how = {"seconds": given.seconds}
        elif given.full and name == "scale":
            how = {"full": True}
        print({**REPORTS, **LASTING}[name](**how), flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()

"""`make bench`: measure, and print each figure as a ratio to a peer that ran beside it.

Figures of a shared machine mean little by themselves; ratios of one run mean more. Every figure is the median of
several rounds in which ours and the peer's take turns.
"""

from tests.bench import forwarding, herding, joining, learned, placement


def main() -> None:
    """Run everything, one after the other."""
    for report in (
        forwarding.report,
        joining.report,
        herding.report,
        learned.report,
        placement.report,
    ):
        print(report(), flush=True)  # noqa: T201 - this is what the command is for


if __name__ == "__main__":
    main()

"""Every parser behind an open port meets random and mutated input; only its documented errors may come out."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import datagrams, messages, texts
from tests.fuzz.target import Target

TARGETS = {**datagrams.TARGETS, **texts.TARGETS, **messages.TARGETS}
EXAMPLES = 1000
"""Of each target: all together take half a minute. `python -m tests.bench fuzz` goes on for longer."""

SLOW = {"dtls": 400, "topology YAML": 200}


@st.composite
def edits(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return a valid input with a few places overwritten, cut out, repeated or filled with bytes of another sort."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(("flip", "overwrite", "cut", "repeat", "insert")))
        if what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "overwrite":
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
        elif what == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif what == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 4))
        elif what == "insert":
            data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    mutated = [edits(seed) for seed in target.seeds]
    return st.one_of(*mutated, *mutated, st.binary(max_size=600))


@pytest.mark.parametrize("name", list(TARGETS))
def test_only_documented_errors_come_out(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=SLOW.get(name, EXAMPLES),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def check(data: bytes) -> None:
        target.run(data)

    for seed in target.seeds:
        target.run(seed)
    check()

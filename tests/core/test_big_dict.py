"""What the cycle collector does with a dict of people."""

import gc

import pytest

from controlplane.core.big_dict import BigDict


@pytest.mark.parametrize(("kind", "is_kept"), [(dict, False), (BigDict, True)])
def test_the_collector_keeps_track_of_it(kind: type[dict[object, float]], is_kept: bool) -> None:
    """The plain one shows that there is something to keep; when it is kept, too, BigDict can go."""
    people = kind()
    for number in range(10):
        people["room", f"p{number}"] = float(number)
    gc.collect()
    assert gc.is_tracked(people) == is_kept

"""Header extensions from one side's ids to the other's."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.model import EXTENSION_IDS, extension_map


def test_only_what_both_sides_know_is_mapped() -> None:
    table = extension_map({"a": 5, "b": 6, "c": 7}, {"a": 1, "c": 2, "d": 3})
    assert {old: new for old, new in enumerate(table) if new} == {5: 1, 7: 2}


@given(st.dictionaries(st.sampled_from(sorted(EXTENSION_IDS)), st.integers(-5, 300)))
def test_ids_that_the_one_byte_form_cannot_carry_are_left_out(ids: dict[str, int]) -> None:
    for table in (extension_map(ids, EXTENSION_IDS), extension_map(EXTENSION_IDS, ids)):
        assert len(table) == 16
        assert table[0] == table[15] == 0
        assert max(table) <= 14

import pytest

from controlplane.core import ids
from controlplane.errors import InvalidInputError


@pytest.mark.parametrize("text", ["a", "A-z_0.9~", "x" * 128, "...", "a.b"])
def test_ids_that_stand_in_urls_unescaped_are_accepted(text: str) -> None:
    assert ids.id_refusal(text) is None
    assert ids.parse_room(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("x" * 129, "129 characters"),
        ("a b", "characters"),
        ("a/b", "characters"),
        ("ä", "characters"),
        ("a\n", "characters"),
        (".", "path segment"),
        ("..", "path segment"),
    ],
)
def test_other_ids_are_refused_with_the_reason(text: str, why: str) -> None:
    assert why in (ids.id_refusal(text) or "")
    with pytest.raises(InvalidInputError) as caught:
        ids.parse_participant(text)
    assert caught.value.code == "bad-participant-id"


@pytest.mark.parametrize("text", ["a", "eu-frankfurt", "n1", "a" * 63])
def test_names_are_like_dns_labels(text: str) -> None:
    assert ids.parse_node(text) == text


@pytest.mark.parametrize("text", ["", "1a", "-a", "A", "a_b", "a" * 64, "a\n"])
def test_other_names_are_refused(text: str) -> None:
    assert ids.name_refusal(text)
    with pytest.raises(InvalidInputError) as caught:
        ids.parse_node(text)
    assert caught.value.code == "bad-node-id"


def test_a_long_id_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidInputError) as caught:
        ids.parse_room("x" * 100_000)
    assert len(caught.value.detail) < 200

"""When a node asks for its next certificate."""

import pytest

from relay.core.enrolment import parse_join_token, renew_at, retry_s

TOKEN = f"twjoin.{'a' * 12}.{'s' * 43}.{'p' * 43}"


def test_a_certificate_is_renewed_at_two_thirds_and_never_by_all_at_once() -> None:
    assert renew_at(0, 24, 0.0) == 16
    assert renew_at(0, 24, 0.999) == pytest.approx(13.6, abs=0.01)
    assert renew_at(100, 124, 0.5) == pytest.approx(114.8)


def test_attempts_come_more_rarely_and_never_stop() -> None:
    assert [retry_s(failures, 0.999) for failures in (0, 1, 2)] == pytest.approx(
        [30, 60, 120], rel=0.01
    )
    assert retry_s(1000, 0.0) == 300
    assert retry_s(0, 0.0) == 15


def test_a_token_has_a_pin_and_does_not_show_itself() -> None:
    token = parse_join_token(f"{TOKEN}\n")
    assert (token.text, token.pin) == (TOKEN, "p" * 43)
    assert "s" * 43 not in repr(token)


@pytest.mark.parametrize("text", ["", "twjoin.x", TOKEN + ".y", TOKEN[:-1]])
def test_other_texts_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="no join token") as caught:
        parse_join_token(text)
    assert not text or text not in str(caught.value)

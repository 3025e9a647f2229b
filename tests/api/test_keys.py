"""API keys."""

import hashlib

import pytest

from controlplane.api.keys import ApiKeys
from controlplane.errors import InvalidInputError, UnauthenticatedError

HASH = hashlib.sha256(b"sesame").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def test_each_key_has_its_name() -> None:
    keys = ApiKeys.parse(f"# comment\n\napp:{HASH}  # production\nops:{OTHER}\n")
    assert keys.caller("Bearer sesame") == "app"
    assert keys.caller("bearer  other ") == "ops"


@pytest.mark.parametrize(
    "header", ["Bearer Sesame", "Bearer sesame2", f"Bearer {HASH}", "Bearer \udcff"]
)
def test_a_wrong_key_is_nobody(header: str) -> None:
    with pytest.raises(UnauthenticatedError, match="no such API key"):
        ApiKeys.parse(f"app:{HASH}").caller(header)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no key"),
        ("# nothing\n", "it has no key"),
        (f"app:{HASH}\napp:{OTHER}", "line 2: the name app is there twice"),
        ("app:sesame", "line 1 is not NAME:SHA256HEX"),
        (f"app:{HASH.upper()}", "line 1 is not NAME:SHA256HEX"),
        (f"{HASH}\n\nx:1", "line 1 is not NAME:SHA256HEX; line 3 is not NAME:SHA256HEX"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_not_repeated(text: str, problem: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ApiKeys.parse(text)
    assert (caught.value.code, caught.value.detail) == ("api-key-file-invalid", problem)

"""API keys: the file's lines, and whose key is whose."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.keys import ApiKey, ApiKeys, bearer, new_key
from controlplane.core.identity import Caller, Scope
from controlplane.errors import InvalidInputError, UnauthenticatedError

HASH = hashlib.sha256(b"sesame").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
FORM = "not NAME:SHA256HEX[:TENANT[:SCOPE,SCOPE]]"


def test_each_key_has_its_name() -> None:
    keys = ApiKeys.parse(f"# comment\n\napp:{HASH}  # production\nops:{OTHER}\n")
    assert keys.caller("sesame") == Caller("app", scopes=frozenset(Scope))
    assert keys.caller("other") == Caller("ops", scopes=frozenset(Scope))
    assert [key.comment for key in keys] == ["production", ""]


def test_a_key_has_tenant_and_scopes() -> None:
    keys = ApiKeys.parse(f"app:{HASH}:acme\nops:{OTHER}:default:read,admin\n")
    assert keys.caller("sesame") == Caller("app", "acme", frozenset({Scope.JOIN, Scope.READ}))
    assert keys.caller("other") == Caller("ops", "default", frozenset({Scope.READ, Scope.ADMIN}))


@pytest.mark.parametrize("key", ["Sesame", "sesame2", "sesam", "", HASH, "\udcff"])
def test_a_wrong_key_is_nobody(key: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        ApiKeys.parse(f"app:{HASH}").caller(key)
    assert caught.value.code == "api-key-unknown"


@pytest.mark.parametrize(
    ("header", "credentials"),
    [("Bearer sesame", "sesame"), ("bearer  other ", "other"), ("BEARER a.b.c", "a.b.c")],
)
def test_what_the_header_says(header: str, credentials: str) -> None:
    assert bearer(header) == credentials


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "sesame"])
def test_a_header_that_says_nothing(header: str | None) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        bearer(header)
    assert caught.value.code == "api-key-missing"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no key"),
        ("# nothing\n", "it has no key"),
        (f"app:{HASH}\napp:{OTHER}", "line 2: the name app is there twice"),
        (f"app:{HASH}\nbpp:{HASH}:acme", "line 2: another name has this key already"),
        ("app:sesame", f"line 1: {FORM}"),
        (f"app:{HASH.upper()}", f"line 1: {FORM}"),
        (f"a b:{HASH}", f"line 1: {FORM}"),
        (f"{HASH}\n\nx:1", f"line 1: {FORM}; line 3: {FORM}"),
        (f"app:{HASH}:", "line 1: '' is no tenant: it is empty"),
        (f"app:{HASH}:a:", "line 1: '' is no scope; there are join,read,admin"),
        (f"app:{HASH}:a:join:x", "line 1: 'join:x' is no scope; there are join,read,admin"),
        (
            f"app:{HASH}:acme:admin",
            "line 1: the scope admin reaches all tenants, so a key of tenant acme cannot have it",
        ),
    ],
)
def test_a_bad_file_is_refused_by_line_and_not_repeated(text: str, problem: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ApiKeys.parse(text)
    assert (caught.value.code, caught.value.detail) == ("api-key-file-invalid", problem)


@given(
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    st.sampled_from(["default", "acme"]),
    st.sets(st.sampled_from([Scope.JOIN, Scope.READ]), min_size=1),
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["", "tw_1a2b3c4d, 2026-11-22"]),
)
def test_a_line_says_all_of_a_key(
    name: str, tenant: str, scopes: set[Scope], digest: bytes, comment: str
) -> None:
    key = ApiKey(Caller(name, tenant, frozenset(scopes)), digest, comment)
    assert ApiKey.parse(key.line()) == key


def test_new_keys_are_new() -> None:
    (one, id_), (other, _) = new_key(), new_key()
    assert one.split("_") == ["tw", id_, one.split("_")[2]]
    assert len(one.split("_")[2]) == 64
    assert one != other

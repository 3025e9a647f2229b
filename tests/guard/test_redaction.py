"""What no log line says."""

import secrets
from base64 import b64encode

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import redaction as rules

JWT = jwt.encode({"sub": "ana"}, "k" * 32, algorithm="HS256")
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\na=ice-ufrag:abcd\r\na=ice-pwd:secretsecret\r\n"
PASSWORD = b64encode(secrets.token_bytes(20)).decode()


@pytest.mark.parametrize(
    "secret",
    [
        JWT,
        JWT.rpartition(".")[0],
        f"tw_{secrets.token_hex(4)}_{secrets.token_hex(32)}",
        f"twjoin.{secrets.token_hex(6)}.{secrets.token_urlsafe(32)}.{secrets.token_urlsafe(32)}",
        f"1764000000:{secrets.token_urlsafe(12)}",
        PASSWORD,
        "ice-pwd:" + secrets.token_hex(16),
        "ice-ufrag:abcd",
        "fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----",
    ],
)
@pytest.mark.parametrize("form", ["{}", "token={}", '{{"why": "bad {}"}}', "Bearer {}", "({}),"])
def test_no_secret_stays(form: str, secret: str) -> None:
    line = rules.without_secrets(form.format(secret))
    assert secret not in line
    assert rules.MASK in line


def test_nothing_of_a_session_description_stays() -> None:
    for text in (SDP, f'{{"why": {SDP!r}}}', '{"why": "' + SDP.replace("\r\n", "\\r\\n") + '"}'):
        line = rules.without_secrets(text)
        assert not any(part in line for part in ("secretsecret", "abcd", "192.0.2.1"))


def test_an_unknown_bearer_is_a_secret_and_the_challenge_is_not() -> None:
    assert "dev-abcdefgh" not in rules.without_secrets("Authorization: Bearer dev-abcdefgh")
    assert rules.without_secrets('Bearer realm="thalweg"') == 'Bearer realm="thalweg"'


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("from 203.0.113.77 now", "from 203.0.113.0/24 now"),
        ("ipv4:203.0.113.77:4711", "ipv4:203.0.113.0/24:4711"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.77/32", "203.0.113.0/24/32"),
        ("127.0.0.1:80 0.0.0.0 [::1]:9 ::", "127.0.0.1:80 0.0.0.0 [::1]:9 ::"),
        ("2001:db8:1:2::77", "2001:db8:1::/48"),
        ("[2001:db8:1:2:3:4:5:6]:443,", "[2001:db8:1::/48]:443,"),
        ("2001:db8:1::/48", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "::ffff:203.0.113.0/24"),
        ("at 13:22:41, 2026-11-22T13:22:41.5Z", "at 13:22:41, 2026-11-22T13:22:41.5Z"),
        ("coturn 4.6.1, aiohttp 3.14.5", "coturn 4.6.1, aiohttp 3.14.5"),
        ("room acme:standup, participant ana", "room acme:standup, participant ana"),
    ],
)
def test_addresses_are_cut_to_their_networks(text: str, kept: str) -> None:
    assert rules.without_addresses(text) == kept


def test_fields_of_our_own_are_kept_and_others_cut_at_any_depth() -> None:
    entry = {
        "target": "203.0.113.77:1", "peer": "203.0.113.77", "count": 3, "none": None,
        "why": ["203.0.113.77", {"203.0.113.77": ("203.0.113.77", OSError("203.0.113.77"))}],
    }  # fmt: skip
    entry["deep"] = [[[[[["203.0.113.77"]]]]]]
    found = rules.redacted(entry)
    assert found.pop("target") == "203.0.113.77:1"
    assert "113.77" not in str(found)
    assert (found["count"], found["none"]) == (3, None)


@given(st.ip_addresses(v=4), st.ip_addresses(v=6))
def test_no_whole_address_stays(four: object, six: object) -> None:
    for address in (four, six):
        text = str(address)
        line = rules.without_addresses(f"why: {text}, [{text}]:5")
        whole = f" {text}," in line
        local = text.startswith(("127.", "0.")) or text in ("::", "::1")
        assert not whole or local


@given(st.text(max_size=300))
def test_no_text_is_too_odd(text: str) -> None:
    rules.without_secrets(rules.without_addresses(text))
    rules.redacted({"event": text, text: [text]})

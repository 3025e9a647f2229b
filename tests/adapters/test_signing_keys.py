"""Signing keys in files that operators replace."""

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controlplane.adapters.signing_keys import MAX_KEYS, SigningKeys
from controlplane.core.key_ring import PUBLISH_LEAD_S, RETIRE_S
from controlplane.errors import InvalidInputError


def pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("controlplane.adapters.signing_keys.SystemClock", lambda: clock)
    return clock


def signed_by(keys: SigningKeys) -> str:
    kid: str = jwt.get_unverified_header(keys.sign({"sub": "ana"}))["kid"]
    assert kid in keys.public_keys()
    return kid


def test_a_replaced_file_rotates_the_key(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "signing.pem"
    file.write_bytes(pem())
    keys = SigningKeys.open([file])
    before = keys.kid
    assert not keys.poll()
    file.write_bytes(pem())
    assert keys.poll()
    assert (signed_by(keys), len(keys.public_keys())) == (before, 2)
    clock.seconds += PUBLISH_LEAD_S
    assert keys.poll()
    assert (signed_by(keys) != before, len(keys.public_keys())) == (True, 2)
    clock.seconds += RETIRE_S
    assert keys.poll()
    assert before not in keys.public_keys()


def test_the_first_key_of_the_first_file_signs_and_all_are_told(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    one.write_bytes(pem() + b"\n# the one before\n" + pem())
    two.write_bytes(pem())
    keys = SigningKeys.open([one, two])
    assert len(keys.public_keys()) == 3
    assert signed_by(keys) == next(iter(keys.public_keys()))


def test_a_file_that_broke_leaves_the_keys_as_they_are(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "signing.pem"
    file.write_bytes(pem())
    keys = SigningKeys.open([file])
    before = keys.kid
    for broken in (b"", b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", pem() * 20):
        file.write_bytes(broken)
        keys.poll()
        assert keys.problem
        clock.seconds += 1000
        keys.poll()
        assert signed_by(keys) == before
    file.unlink()
    keys.poll()
    assert "cannot be read" in keys.problem
    file.write_bytes(pem())
    assert keys.poll()
    assert keys.problem == ""


def test_more_keys_than_anybody_needs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "signing.pem"
    file.write_bytes(b"".join(pem() for _ in range(MAX_KEYS + 1)))
    with pytest.raises(InvalidInputError, match="more than 8 keys"):
        SigningKeys.open([file])

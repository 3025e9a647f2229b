"""What `thalweg-relay` refuses, and what it says."""

from pathlib import Path

import pytest

from relay.config import Address, Settings, SettingsError, load_settings, parse_address
from relay.transport.tls import NodeIdentity
from tests.fakes.trunk_node import REGION, node_tls

GOOD = {
    "--node": "n1",
    "--region": REGION,
    "--http": "127.0.0.1:8080",
    "--media": "127.0.0.1:3478",
    "--trunk-grpc": "127.0.0.1:8444",
    "--trunk-udp": "127.0.0.1:3479",
    "--control-plane": "127.0.0.1:8443",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    tls = node_tls("n1")
    for name, content in (("ca.pem", tls.ca), ("cert.pem", tls.cert), ("key.pem", tls.key)):
        (tmp_path / name).write_bytes(content)
    return tmp_path


def load(files: Path, **changes: str) -> Settings:
    """Load good settings, but for the changes: `capacity="1"` is --capacity 1."""
    given = GOOD | {"--tls-dir": str(files), "--state-dir": str(files)}
    given |= {"--" + name.replace("_", "-"): value for name, value in changes.items()}
    return load_settings([word for pair in given.items() for word in pair])


def test_good_settings_advertise_what_is_bound(files: Path) -> None:
    settings = load(files)
    assert settings.media_advertise == settings.media == Address("127.0.0.1", 3478)
    assert settings.trunk_advertise == settings.trunk_udp
    assert settings.public_url == ""


def test_proxies_are_trusted_only_when_named(files: Path) -> None:
    assert load(files).trusted_proxies == ()
    [network] = load(files, trusted_proxy="10.0.0.0/8").trusted_proxies
    assert str(network) == "10.0.0.0/8"


def test_a_node_behind_nat_names_its_public_addresses(files: Path) -> None:
    settings = load(
        files, media="0.0.0.0:3478", media_advertise="203.0.113.10:3478", public_url="https://fra1.example.net/"
    )  # fmt: skip
    assert settings.media_advertise == Address("203.0.113.10", 3478)
    assert settings.public_url == "https://fra1.example.net"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"media": "nowhere"}, "--media: 'nowhere' is not HOST:PORT"),
        ({"media": "0.0.0.0:3478"}, "--media-advertise: 0.0.0.0:3478 is every address"),
        ({"media_advertise": "fra1.example.net:3478"}, "--media-advertise"),
        ({"trunk_advertise": "0.0.0.0:1"}, "--trunk-advertise"),
        ({"http": "0.0.0.0:8080"}, "--public-url: --http is 0.0.0.0:8080"),
        ({"public_url": "ftp://fra1"}, "--public-url: 'ftp://fra1' is not a base URL"),
        ({"trusted_proxy": "10.0.0.1/8"}, "--trusted-proxy: 10.0.0.1/8 has host bits set"),
        ({"public_url": "https://fra1.example.net/edge"}, "is not a base URL"),
        ({"capacity": "0"}, "--capacity"),
        ({"node": "N 1"}, "--node: 'N 1' is not"),
        ({"node": "n2"}, "names node n1 of eu-frankfurt, not node n2"),
        ({"tls_dir": "/nonexistent"}, "--tls-dir: cannot read"),
        ({"control_plane": "host:99999"}, "--control-plane"),
    ],
)
def test_a_mistake_is_named(files: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(files, **changes)
    assert words in str(refused.value)


TOKEN = f"twjoin.{'a' * 12}.{'s' * 43}.{'p' * 43}"


def test_a_node_without_a_certificate_enrols(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "token").write_text(TOKEN + "\n")
    fresh = str(files / "fresh")
    settings = load(
        files, tls_dir=fresh, enroll="cp.example.net:8445", join_token_file=str(files / "token")
    )
    assert settings.tls is None
    assert settings.renews
    assert settings.enrolment is not None
    assert (settings.enrolment.host, settings.enrolment.port) == ("cp.example.net", 8445)
    assert settings.enrolment.names == ("127.0.0.1",)
    assert settings.enrolment.identity == NodeIdentity(REGION, "n1")
    assert "s" * 43 not in repr(settings)
    monkeypatch.setenv("THALWEG_JOIN_TOKEN", TOKEN)
    with_variable = load(files, tls_dir=fresh, enroll="cp.example.net:8445").enrolment
    assert with_variable is not None
    assert with_variable.token == settings.enrolment.token


def test_a_node_with_a_good_certificate_needs_no_token(files: Path) -> None:
    settings = load(files, enroll="cp.example.net:8445")
    assert settings.tls is not None
    assert (settings.enrolment, settings.renews) == (None, True)
    assert not load(files).renews


@pytest.mark.parametrize("content", [None, "", "sesame", "twjoin.x.y.z"])
def test_without_a_token_a_node_cannot_enrol(files: Path, content: str | None) -> None:
    changes = {"tls_dir": str(files / "fresh"), "enroll": "cp.example.net:8445"}
    if content is not None:
        (files / "token").write_text(content)
        changes["join_token_file"] = str(files / "token")
    with pytest.raises(SettingsError) as refused:
        load(files, **changes)
    [problem] = refused.value.problems
    assert problem.startswith("--join-token-file: ")
    assert "thalweg node token create" in problem
    assert not content or content not in problem


def test_all_mistakes_are_named_at_once(files: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        load(files, media="x", capacity="-1", public_url="x")
    assert len(refused.value.problems) == 3


def test_ipv6_addresses_stand_in_brackets() -> None:
    assert parse_address("[::1]:80") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"

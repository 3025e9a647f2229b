"""Settings: all problems at once, each with what to do."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.adapters import authority
from controlplane.config import Address, Options, SettingsError, load_settings, parse_address
from tests.api.harness import CLIENT, DEMO, SERVER
from tests.fakes.mmdb import write_mmdb

HASH = "0" * 64


@pytest.fixture
def options(tmp_path: Path) -> Options:
    SERVER.write(tmp_path / "tls")
    (tmp_path / "topology.yaml").write_text(DEMO)
    (tmp_path / "keys").write_text(f"app:{HASH}\n")
    return Options(
        topology=tmp_path / "topology.yaml",
        http="127.0.0.1:8080",
        grpc="[::1]:8443",
        tls_dir=tmp_path / "tls",
        api_key_file=tmp_path / "keys",
    )


def problems(options: Options) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(options)
    return caught.value.problems


def test_the_least_that_works(options: Options) -> None:
    settings = load_settings(options)
    assert (settings.http, settings.grpc) == (Address("127.0.0.1", 8080), Address("::1", 8443))
    assert str(settings.grpc) == "[::1]:8443"
    assert (settings.turn, settings.geoip, settings.trusted_proxies) == (None, (), ())
    assert not settings.signer.is_lasting
    assert (settings.issuer, settings.enroll) == (None, None)


def test_everything(options: Options, tmp_path: Path) -> None:
    (tmp_path / "turn").write_text("a-master-secret-for-turn\n")
    place = {"latitude": 1.0, "longitude": 2.0}
    geoip = write_mmdb(tmp_path / "x.mmdb", "city ipv4", {"1.0.0.0/8": place}, ip_version=4)
    full = replace(
        options,
        turn_secret_file=tmp_path / "turn",
        geoip=[geoip],
        trusted_proxy=["10.0.0.0/8", "2001:db8::/32"],
        declared_rtts=True,
        open_metrics=True,
    )
    settings = load_settings(full)
    assert settings.turn is not None
    assert settings.turn.masters().secrets == (b"a-master-secret-for-turn",)
    assert settings.geoip == (geoip,)
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "2001:db8::/32"]
    assert "a-master-secret" not in repr(settings)


def test_all_problems_come_at_once(options: Options, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("sesame")
    (tmp_path / "topology.yaml").write_text("version: 2\nregions: {}\n")
    broken = replace(
        options,
        http="nowhere",
        grpc="::1:8443",
        tls_dir=tmp_path / "no-tls",
        api_key_file=tmp_path / "no-keys",
        signing_key=[tmp_path / "keys"],
        turn_secret_file=tmp_path / "short",
        geoip=[tmp_path / "keys"],
        trusted_proxy=["10.0.0.1/8"],
    )
    found = problems(broken)
    flags = [problem.split(":")[0] for problem in found]
    assert flags == [
        "--topology", "--topology", "--http", "--grpc", "--tls-dir", "--api-key-file", "--signing-key",
        "--turn-secret-file", "--geoip", "--trusted-proxy",
    ]  # fmt: skip
    assert "sesame" not in found[7]


def test_an_enrolment_port_needs_an_authority(options: Options, tmp_path: Path) -> None:
    [problem] = problems(replace(options, enroll="127.0.0.1:0"))
    assert problem.startswith("--enroll: without --ca-dir")
    [problem] = problems(replace(options, ca_dir=tmp_path / "nowhere"))
    assert problem.startswith("--ca-dir: ")
    assert "thalweg ca init" in problem
    made = authority.create(tmp_path / "ca", now=datetime.now(UTC))  # noqa: TID251
    settings = load_settings(replace(options, ca_dir=tmp_path / "ca", enroll="127.0.0.1:0"))
    assert settings.enroll == Address("127.0.0.1", 0)
    assert settings.issuer is not None
    assert settings.issuer.pin() == made.pin()
    (tmp_path / "ca" / "authority.pem").chmod(0o644)
    [problem] = problems(replace(options, ca_dir=tmp_path / "ca"))
    assert "everybody on this machine can open" in problem


@pytest.mark.parametrize(
    ("http", "grpc", "refused"),
    [
        ("127.0.0.1:0", "127.0.0.1:0", []),
        ("localhost:0", "[::1]:0", []),
        ("127.8.8.8:0", "127.0.0.1:0", []),
        ("0.0.0.0:0", "127.0.0.1:0", ["--http"]),
        ("127.0.0.1:0", "[::]:0", ["--grpc"]),
        ("192.0.2.1:0", "cp.example.net:0", ["--http", "--grpc"]),
    ],
)
def test_declared_round_trips_are_for_this_machine_only(
    options: Options, http: str, grpc: str, refused: list[str]
) -> None:
    wanted = replace(options, http=http, grpc=grpc, declared_rtts=True)
    if not refused:
        assert load_settings(wanted).declared_rtts
        return
    found = problems(wanted)
    assert [problem.split()[1] for problem in found] == refused
    assert all("reachable from other machines" in problem for problem in found)
    assert str(load_settings(replace(wanted, declared_rtts=False)).http) == http


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:", ":1", "a:b", "a:65536", "a:-1", "::1:1", "[::1]", "a:²"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        parse_address(text)


def test_certificates_are_looked_at(options: Options) -> None:
    for name, words in (
        ("ca.pem", "ca.pem holds no certificates in PEM"),
        ("cert.pem", "are no certificate in PEM with its own unencrypted key"),
        ("key.pem", "are no certificate in PEM with its own unencrypted key"),
    ):
        SERVER.write(options.tls_dir)
        (options.tls_dir / name).write_text("garbage")
        (problem,) = problems(options)
        assert problem.startswith("--tls-dir: ")
        assert words in problem
    SERVER.write(options.tls_dir)
    (options.tls_dir / "key.pem").write_bytes(CLIENT.key)
    (problem,) = problems(options)
    assert "with its own unencrypted key" in problem

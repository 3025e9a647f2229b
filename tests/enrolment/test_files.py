"""The certificate on a node's disk: changed in one step, and read again while the node runs."""

from datetime import timedelta
from pathlib import Path

from structlog.testing import capture_logs

from controlplane.adapters.ca import CertificateAuthority
from relay.transport.tls import FILES, LiveTls, TlsFiles
from tests.enrolment.system import DAY, IDENTITY, REGION, now


def certificate(issuer: CertificateAuthority) -> TlsFiles:
    bundle = issuer.issue(
        f"spiffe://thalweg/region/{REGION}/node/{IDENTITY.node}", now=now(), lifetime=DAY
    )
    return TlsFiles(bundle.ca, bundle.cert, bundle.key)


def test_files_change_all_at_once(tmp_path: Path) -> None:
    issuer = CertificateAuthority.create("t", now=now(), lifetime=DAY)
    first, second = certificate(issuer), certificate(issuer)
    first.save(tmp_path)
    assert TlsFiles.load(tmp_path) == first
    live = LiveTls(tmp_path, IDENTITY, first)
    second.save(tmp_path)
    assert TlsFiles.load(tmp_path) == second
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.pem")}
    assert modes == {0o600}
    assert sorted(path.name for path in tmp_path.glob("*.pem")) == sorted(FILES)
    assert (
        len([path for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()]) == 1
    )
    live.poll()
    assert live.files == second


def test_files_of_ones_own_pki_are_read_again_when_they_are_whole(tmp_path: Path) -> None:
    issuer = CertificateAuthority.create("t", now=now(), lifetime=DAY)
    first, second = certificate(issuer), certificate(issuer)
    for name, content in zip(FILES, (first.ca, first.cert, first.key), strict=True):
        (tmp_path / name).write_bytes(content)
    live = LiveTls(tmp_path, IDENTITY, first)
    (tmp_path / "cert.pem").write_bytes(second.cert)
    live.poll()
    assert live.files == first
    (tmp_path / "key.pem").write_bytes(second.key)
    live.poll()
    assert live.files == second
    other = issuer.issue(f"spiffe://thalweg/region/{REGION}/node/x", now=now(), lifetime=DAY)
    (tmp_path / "cert.pem").write_bytes(other.cert)
    (tmp_path / "key.pem").write_bytes(other.key)
    live.poll()
    assert live.files == second


def test_what_is_broken_is_told_once_and_late_is_told_hourly(tmp_path: Path) -> None:
    issuer = CertificateAuthority.create("t", now=now(), lifetime=DAY)
    bundle = issuer.issue(
        f"spiffe://thalweg/region/{REGION}/node/{IDENTITY.node}",
        now=now() - timedelta(hours=23),
        lifetime=DAY,
    )
    files = TlsFiles(bundle.ca, bundle.cert, bundle.key)
    files.save(tmp_path)
    live = LiveTls(tmp_path, IDENTITY, files)
    (tmp_path / "key.pem").unlink()
    with capture_logs() as logs:
        live.poll()
        assert logs == []  # perhaps between two writes
        for _ in range(5):
            live.poll()
        live._watch_the_end()
        live._watch_the_end()
    assert [one["event"].partition(":")[0] for one in logs] == [
        "FILES OF THE CERTIFICATE ARE BROKEN",
        "THE CERTIFICATE IS ABOUT TO END",
    ]
    assert logs[1]["hours_left"] == 1.0
    assert live.files == files

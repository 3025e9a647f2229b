"""`thalweg ca` and `thalweg node token`."""

import asyncio
import re
from pathlib import Path

from cryptography import x509

from controlplane.adapters.authority import Issuer
from controlplane.config import Address
from tests.api.harness import Api, running, settings
from tests.cli.asking import thalweg
from tests.enrolment.system import prepare


async def test_an_authority_is_made_once(tmp_path: Path) -> None:
    place = str(tmp_path / "ca")
    done = await thalweg(None, "ca", "init", "--dir", place, "-o", "json")
    assert done.code == 0
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", done.json["hash"])
    assert done.json["trusted_too"] == []
    assert (tmp_path / "ca" / "authority.pem").stat().st_mode & 0o777 == 0o600
    again = await thalweg(None, "ca", "init", "--dir", place)
    assert (again.code, again.out) == (1, "")
    assert "has an authority already" in again.err
    shown = await thalweg(None, "ca", "show", "--dir", place, "-o", "json")
    assert shown.json == done.json


async def test_another_one_takes_over(tmp_path: Path) -> None:
    place = ("--dir", str(tmp_path / "ca"))
    before = (await thalweg(None, "ca", "init", *place, "-o", "json")).json
    after = (await thalweg(None, "ca", "rotate", *place, "-o", "json")).json
    assert after["hash"] != before["hash"]
    assert after["trusted_too"] == [before["hash"]]
    refused = await thalweg(None, "ca", "rotate", "--finish", *place)
    assert refused.code == 1
    assert "until" in refused.err
    assert before["hash"] in (await thalweg(None, "ca", "show", *place)).out


async def test_a_certificate_is_issued(tmp_path: Path) -> None:
    place, out = ("--dir", str(tmp_path / "ca")), tmp_path / "tls"
    await thalweg(None, "ca", "init", *place)
    names = ("--name", "control.example.net", "--name", "::1")
    done = await thalweg(
        None, "ca", "issue", "controlplane/one", *place, "--out", str(out), *names, "--days", "3"
    )
    assert (done.code, done.out) == (0, "")
    certificate = x509.load_pem_x509_certificate((out / "cert.pem").read_bytes())
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://thalweg/controlplane/one"
    ]
    assert found.get_values_for_type(x509.DNSName) == ["control.example.net"]
    for who in ("controlplane", "region/r/node", "region/r/edge/n", "x/y", "controlplane/A"):
        refused = await thalweg(None, "ca", "issue", who, *place, "--out", str(tmp_path / "no"))
        assert refused.code == 1
        assert "nobody that takes part" in refused.err
    refused = await thalweg(
        None, "ca", "issue", "client/x", *place, "--out", str(tmp_path / "no"), "--name", "a:1"
    )
    assert "neither an IP address nor a DNS name" in refused.err
    assert not (tmp_path / "no").exists()


async def test_a_directory_without_an_authority(tmp_path: Path) -> None:
    for command in (["show"], ["rotate"], ["issue", "client/x", "--out", str(tmp_path / "no")]):
        done = await thalweg(None, "ca", *command, "--dir", str(tmp_path))
        assert (done.code, done.out) == (1, "")
        assert "thalweg ca init" in done.err


async def test_a_token_is_printed_alone(tmp_path: Path) -> None:
    ca_dir, tls_dir = await asyncio.to_thread(prepare, tmp_path)
    issuer = await asyncio.to_thread(Issuer, ca_dir)
    wanted = settings(tls_dir, issuer=issuer, enroll=Address("127.0.0.1", 0))
    async with running(wanted) as api:
        done = await thalweg(api, "node", "token", "create", "--region", "eu-frankfurt")
        assert done.code == 0
        assert re.fullmatch(r"twjoin\.[0-9a-f]{12}\.[\w-]{43}\.[\w-]{43}\n", done.out)
        assert done.out.strip().endswith(issuer.pin())
        assert "once, within 1h" in done.err
        flags = ("--node", "fra1", "--name", "fra1.example.net", "--ttl", "90s", "-o", "json")
        done = await thalweg(api, "node", "token", "create", "--region", "eu-frankfurt", *flags)
        assert (done.json["node"], done.json["names"]) == ("fra1", ["fra1.example.net"])
        refused = await thalweg(api, "node", "token", "create", "--region", "mars")
        assert refused.code == 1
        assert "unknown-region" in refused.err


async def test_a_control_plane_without_an_authority(api: Api) -> None:
    done = await thalweg(api, "node", "token", "create", "--region", "eu-frankfurt")
    assert (done.code, done.out) == (1, "")
    assert "no-authority" in done.err

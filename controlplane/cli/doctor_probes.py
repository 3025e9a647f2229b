"""What `thalweg doctor` looks at: the control plane, nodes, files, Redis. Each probe returns checks and never raises.

The caller bounds the time of each.
"""

import asyncio
import secrets
import ssl
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from controlplane.cli.doctor_checks import (
    CertificateFacts,
    Check,
    fail,
    judge_certificate,
    judge_clock,
    judge_geoip,
    judge_listener_certificate,
    judge_redis,
    judge_samples,
    ok,
    read_samples,
    warn,
)
from controlplane.errors import ControlPlaneError

Clock = Callable[[], float]
"""Seconds since 1970, by this machine."""

PROBE_REQUEST_BYTES = 64
"""A node answers an unauthenticated STUN request only when the answer is not larger."""

MAX_BODY = 1024 * 1024


async def probe_http(name: str, subject: str, base: str, clock: Clock) -> list[Check]:
    """Look whether a server is ready, and at its clock."""
    began = time.monotonic()
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{base}/readyz") as answer:
            text = (await answer.content.read(500)).decode(errors="replace")
            status, date = answer.status, answer.headers.get("Date")
            took_s, answered_at = time.monotonic() - began, clock()
    except (aiohttp.ClientError, OSError) as error:
        todo = "does it run, does the firewall let this port through?"
        return [fail(name, subject, f"{base}: {error}", todo)]
    checks = [
        ok(name, subject, f"ready, answers in {took_s * 1000:.0f} ms")
        if status == 200
        else fail(name, subject, f"not ready ({status}): {text[:200]}", "see its log")
    ]
    if date is not None:
        theirs = parsedate_to_datetime(date).timestamp() + 0.5  # the middle of its second
        checks.append(judge_clock(subject, theirs - (answered_at - took_s / 2), took_s))
    return checks


async def probe_metrics(subject: str, base: str, clock: Clock) -> list[Check]:
    """Look at a node's own metrics."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{base}/metrics") as answer:
            if answer.status != 200:
                todo = "ask from a machine that may"
                return [warn("node-load", subject, f"/metrics answers {answer.status}", todo)]
            text = (await answer.content.read(MAX_BODY)).decode(errors="replace")
    except (aiohttp.ClientError, OSError) as error:
        return [fail("node-load", subject, f"{base}/metrics: {error}", "does it run?")]
    return judge_samples(subject, read_samples(text), clock())


async def probe_stun(subject: str, uri: str) -> list[Check]:
    """Ask a node's media port for a Binding (RFC 8489), as clients do before they join."""
    host, _, port = uri.removeprefix("stun:").rpartition(":")
    transaction = secrets.token_bytes(12)
    body = struct.pack("!HH", 0x8022, PROBE_REQUEST_BYTES - 24) + bytes(PROBE_REQUEST_BYTES - 24)
    request = struct.pack("!HHI", 0x0001, len(body), 0x2112A442) + transaction + body
    came = asyncio.Event()

    class Answer(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            del addr
            if data[8:20] == transaction:
                came.set()

    began = time.monotonic()
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Answer, remote_addr=(host.strip("[]"), int(port))
        )
    except OSError as error:
        return [fail("media", subject, f"{uri}: {error}", "see its --media-advertise")]
    try:
        for _ in range(3):
            transport.sendto(request)
            try:
                async with asyncio.timeout(1.0):
                    await came.wait()
            except TimeoutError:
                continue
            took_ms = (time.monotonic() - began) * 1000
            return [ok("media", subject, f"{uri} answers in {took_ms:.0f} ms")]
    finally:
        transport.close()
    todo = "let UDP to it through the firewall; is --media-advertise right?"
    return [fail("media", subject, f"{uri} does not answer", todo)]


async def probe_tls_port(address: str, folder: Path | None, clock: Clock) -> list[Check]:
    """Make a mutual TLS handshake with the control plane's gRPC port."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=folder / "ca.pem" if folder else None)
        if folder is not None:
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem", password=lambda: b"")
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    except ssl.SSLError as error:
        todo = "compare its certificate's names and CA with --tls-dir"
        return [fail("grpc", address, f"TLS fails: {error.reason or error}", todo)]
    except OSError as error:
        return [fail("grpc", address, str(error), "does it run, does the firewall let it through?")]
    found = writer.get_extra_info("peercert")
    version = writer.get_extra_info("ssl_object").version()
    writer.close()
    ends = ssl.cert_time_to_seconds(found["notAfter"])
    checks = [ok("grpc", address, f"{version} and a certificate that we trust")]
    return (
        [*checks, judge_listener_certificate(address, ends, clock())] if folder is None else checks
    )


# --- files ----------------------------------------------------------------------------------------


def look_at_tls_files(folder: Path, now: float) -> list[Check]:
    """Judge the certificate in a --tls-dir."""
    subject = str(folder)
    try:
        chain = x509.load_pem_x509_certificates((folder / "cert.pem").read_bytes())
        authorities = x509.load_pem_x509_certificates((folder / "ca.pem").read_bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem", password=lambda: b"")
    except ssl.SSLError as error:
        todo = "cert.pem and key.pem have to belong together"
        return [fail("certificate", subject, f"{error.reason or error}", todo)]
    except (OSError, ValueError) as error:
        return [fail("certificate", subject, str(error), "it has ca.pem, cert.pem and key.pem")]
    return [judge_certificate(subject, _facts(chain, authorities), now)]


def _facts(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> CertificateFacts:
    leaf = chain[0]
    names: list[str] = []
    uris: list[str] = []
    for extension in leaf.extensions:
        if extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            names += extension.value.get_values_for_type(x509.DNSName)
            names += map(str, extension.value.get_values_for_type(x509.IPAddress))
            uris += extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    began, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    verifier = PolicyBuilder().store(Store(list(authorities))).time(began + (ends - began) / 2)
    try:
        verifier.build_client_verifier().verify(leaf, list(chain[1:]))
        trusted = True
    except (VerificationError, ValueError):
        trusted = False
    return CertificateFacts(began.timestamp(), ends.timestamp(), tuple(names), tuple(uris), trusted)


def look_at_geoip(path: Path, now: float) -> list[Check]:
    """Judge a GeoIP file."""
    from controlplane.adapters.geoip import GeoIp  # noqa: PLC0415 - only who asks pays for it

    try:
        database = GeoIp.open([path])
    except ControlPlaneError as error:
        return [
            fail("geoip", str(path), error.detail, error.hint or "get a City file in MMDB form")
        ]
    built = dict(database.built)
    database.close()
    return [judge_geoip(str(found), now - at) for found, at in built.items()]


def look_at_topology(path: Path) -> list[Check]:
    """Judge a topology file."""
    from controlplane.adapters.topology_yaml import TopologyError, parse_topology  # noqa: PLC0415

    try:
        topology = parse_topology(path.read_text("utf-8"), str(path))
    except TopologyError as error:
        seen = (
            f"{len(error.problems)} mistakes, the first: {str(error.problems[0]).splitlines()[0]}"
        )
        return [fail("topology", str(path), seen, f"thalweg topology validate {path}")]
    except (OSError, UnicodeDecodeError) as error:
        return [fail("topology", str(path), str(error), "give the file that serve is given")]
    return [ok("topology", str(path), f"valid, {len(topology.regions)} regions")]


# --- Redis ----------------------------------------------------------------------------------------


async def probe_redis(url: str, password: str | None, clock: Clock) -> list[Check]:
    """Look at the masters: reachable, role, replicas, memory, version, clock."""
    from controlplane.store.redis.connect import FAILURES, connector_of  # noqa: PLC0415
    from controlplane.store.redis.target import parse_target  # noqa: PLC0415

    subject = url.rpartition("@")[2]
    try:
        target = parse_target(url, password)
    except ValueError as error:
        return [fail("redis", subject, str(error), "see --redis of `thalweg serve`")]
    connector = connector_of(target)
    checks: list[Check] = []
    seen: set[str] = set()
    try:
        for partition in range(connector.partitions):
            link = await connector.connect(partition)
            if link.run_id in seen:
                continue
            seen.add(link.run_id)
            began = time.monotonic()
            seconds, micros = await link.client.time()
            took_s, answered_at = time.monotonic() - began, clock()
            where = subject if len(seen) == 1 else f"{subject} #{len(seen)}"
            info: Mapping[str, Any] = await link.client.info()
            checks += judge_redis(where, info, await _config(link.client))
            theirs = seconds + micros / 1e6
            checks.append(judge_clock(where, theirs - (answered_at - took_s / 2), took_s))
    except FAILURES as error:
        todo = "does it run, is the password right, is the address right?"
        return [*checks, fail("redis", subject, str(error) or type(error).__name__, todo)]
    finally:
        await connector.close()
    return checks


async def _config(client: Any) -> dict[str, str]:
    """Return what CONFIG GET tells; nothing where that is forbidden, as at most clouds."""
    from redis.exceptions import ResponseError  # noqa: PLC0415

    found: dict[str, str] = {}
    for name in ("maxmemory-policy", "min-replicas-to-write"):
        try:
            found |= await client.config_get(name)
        except ResponseError:
            return found
    return found

"""A new node gets its certificate with a one-time token, over real gRPC; and who gets none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs
from thalweg.v1 import enrollment_pb2, enrollment_pb2_grpc

from controlplane.adapters.ca import CertificateAuthority
from controlplane.cli.local_setup import free_port
from relay.api.enrolment import Enrolment, EnrolmentError, _make_request, enrol
from relay.core.enrolment import parse_join_token
from relay.transport.tls import NodeIdentity, TlsFiles
from tests.enrolment.system import (
    DAY,
    HOST,
    IDENTITY,
    NODE,
    REGION,
    Issuing,
    health,
    issuing,
    now,
    server_context,
)
from tests.fakes.waiting import eventually

DAY_S = 24 * 3600


async def test_a_new_node_gets_a_certificate_and_is_known_by_it(plane: Issuing) -> None:
    files = await plane.enrol(await plane.token())
    names = files.check(IDENTITY)
    assert (names.dns_names, names.ip_addresses) == ((), (HOST,))
    assert DAY_S <= names.ends_at - names.begins_at <= DAY_S + 600
    assert files.ca == plane.issuer.authority.trusted()
    assert await health(plane.target, files.channel_credentials()) == ""


async def test_a_node_waits_for_a_control_plane_that_is_away(tmp_path: Path) -> None:
    port = free_port(set())
    async with issuing(tmp_path) as first:
        token = parse_join_token(await first.token())
    wanted = Enrolment(HOST, port, token, IDENTITY, ())
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(enrol(wanted))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            waiting.cancel()
    complaints = [one for one in logs if one["event"] == "not enrolled yet"]
    assert len(complaints) == 1  # and not one for each attempt
    assert f"{HOST}:{port}" in complaints[0]["why"]


async def test_a_token_is_good_for_one_key(plane: Issuing) -> None:
    token = await plane.token()
    await plane.enrol(token)
    with pytest.raises(EnrolmentError, match="UNAUTHENTICATED: join-token-used"):
        await plane.enrol(token)
    with pytest.raises(EnrolmentError, match="join-token-used: the token was used, for node fra1"):
        await plane.enrol(token, node="fra2")


async def test_an_answer_that_was_lost_is_given_again(plane: Issuing) -> None:
    token, request = await plane.token(), _make_request([HOST])
    async with enrolment_stub(plane) as stub:
        asked = enrollment_pb2.EnrollRequest(
            token=token, region=REGION, node=NODE, csr_pem=request.csr
        )
        chains = {(await stub.Enroll(asked)).certificate.chain_pem for _ in range(3)}
    assert len(chains) == 3


async def test_of_many_at_once_one_key_wins(plane: Issuing) -> None:
    token = await plane.token()
    outcomes = await asyncio.gather(
        *(plane.enrol(token, f"fra{number}") for number in range(8)), return_exceptions=True
    )
    won = [one for one in outcomes if isinstance(one, TlsFiles)]
    assert len(won) == 1
    assert all(isinstance(one, TlsFiles | EnrolmentError) for one in outcomes)


@pytest.mark.parametrize(
    ("body", "node", "region", "code"),
    [
        ({}, NODE, "us-virginia", "PERMISSION_DENIED: join-token-region"),
        ({"node": "fra9"}, NODE, REGION, "PERMISSION_DENIED: join-token-node"),
        ({}, "Fra_1", REGION, "PERMISSION_DENIED: bad-node-id"),
        ({}, "a/node/b", REGION, "PERMISSION_DENIED: bad-node-id"),
    ],
)
async def test_a_token_is_bound_to_its_region_and_node(
    plane: Issuing, body: dict[str, str], node: str, region: str, code: str
) -> None:
    token = await plane.token(**body)
    with pytest.raises(EnrolmentError, match=code):
        await plane.enrol(token, node, region)
    await plane.enrol(token, body.get("node", NODE))  # a mistake does not use it up


async def test_nobody_gets_a_name_that_is_not_his(plane: Issuing) -> None:
    """Or a node could have the control plane's name in its certificate."""
    token = await plane.token(names=["fra1.example.net", "2001:db8::1"])

    async def refusal(*names: str) -> str:
        async with enrolment_stub(plane) as stub:
            csr = _make_request(names).csr
            try:
                await stub.Enroll(
                    enrollment_pb2.EnrollRequest(token=token, region=REGION, node=NODE, csr_pem=csr)
                )
            except grpc.aio.AioRpcError as error:
                return (error.details() or "").partition(":")[0]
        return ""

    assert await refusal("control.example.net") == "name-not-allowed"
    assert await refusal("192.0.2.1") == "name-not-allowed"
    assert await refusal("FRA1.example.net", "2001:db8:0::1", HOST) == ""


async def test_tokens_that_are_none(plane: Issuing) -> None:
    good = await plane.token()
    head, id_, _, pin = good.split(".")
    guessed = ".".join((head, id_, "a" * 43, pin))
    with pytest.raises(EnrolmentError, match="UNAUTHENTICATED: join-token-invalid"):
        await plane.enrol(guessed)
    unknown = ".".join((head, "0" * 12, "a" * 43, pin))
    with pytest.raises(EnrolmentError, match="UNAUTHENTICATED: join-token-invalid"):
        await plane.enrol(unknown)
    await plane.enrol(good)  # guessing takes nothing away


@pytest.mark.parametrize("csr", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\n", "y" * 9000])
async def test_a_request_that_cannot_be_signed(plane: Issuing, csr: str) -> None:
    token = await plane.token()
    async with enrolment_stub(plane) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Enroll(
                enrollment_pb2.EnrollRequest(token=token, region=REGION, node=NODE, csr_pem=csr)
            )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith("csr-invalid: ")
    await plane.enrol(token)


async def test_the_token_is_shown_to_its_own_authority_only(plane: Issuing) -> None:
    """Whoever sits at the address instead gets a handshake, and no byte of the token."""
    stranger = CertificateAuthority.create("stranger", now=now(), lifetime=DAY)
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.read(1))
        except OSError:  # it hung up without a word
            heard.append(b"")
        writer.close()

    context = await asyncio.to_thread(server_context, stranger, plane.ca_dir.parent / "stranger")
    async with await asyncio.start_server(listen, HOST, 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        token = await plane.token()
        plane.api.ports = replace(plane.api.ports, enroll=port)
        with pytest.raises(EnrolmentError, match="none is the authority that the join token names"):
            await plane.enrol(token)
        await eventually(lambda: None if heard else "still connected")
    assert heard == [b""]


async def test_an_address_may_not_try_for_ever(plane: Issuing) -> None:
    async with enrolment_stub(plane) as stub:
        codes = []
        for _ in range(40):
            try:
                await stub.Enroll(enrollment_pb2.EnrollRequest(token="x"))
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
    assert codes.count(grpc.StatusCode.UNAUTHENTICATED) == 30
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 10


async def test_a_region_that_is_away_uses_nothing_up(plane: Issuing) -> None:
    async def declare(text: str) -> str:
        current = await plane.api.call("GET", "/v1/topology")
        headers = {"Content-Type": "application/yaml", "If-Match": current.headers["ETag"]}
        answer = await plane.api.call("PUT", "/v1/topology", data=text, headers=headers)
        assert answer.status == 200, answer.text
        return current.text

    more = "regions:\n  aa-new: {location: {lat: 1, lon: 1}}\n"
    before = (await plane.api.call("GET", "/v1/topology")).text
    with_it = before.replace("regions:\n", more, 1)
    await declare(with_it)
    token = await plane.token(region="aa-new")
    await declare(before)
    with pytest.raises(EnrolmentError, match="unknown-region"):
        await plane.enrol(token, region="aa-new")
    await declare(with_it)
    files = await plane.enrol(token, region="aa-new")
    assert files.names().identity == NodeIdentity("aa-new", NODE)


async def test_strangers_connections_are_few(plane: Issuing) -> None:
    async with AsyncExitStack() as stack:
        readers = []
        for _ in range(300):
            reader, writer = await asyncio.open_connection(HOST, plane.enroll_port)
            stack.callback(writer.close)
            readers.append(reader)

        async def refused() -> str | None:
            closed = sum(one.at_eof() or one.exception() is not None for one in readers)
            return None if closed == 44 else f"{closed} of 300 were closed"

        await eventually(refused)
    await plane.enrol(await plane.token())


async def test_each_enrolment_is_audited(plane: Issuing) -> None:
    with capture_logs() as logs:
        token = await plane.token()
        await plane.enrol(token)
        with pytest.raises(EnrolmentError):
            await plane.enrol(token)
    audited = [entry for entry in logs if entry["event"] == "audit"]
    assert [(one["action"], one["result"]) for one in audited] == [
        ("node-token.create", "done"),
        ("node.enrol", "done"),
        ("node.enrol", "join-token-used"),
    ]
    assert (audited[1]["node"], audited[1]["region"]) == (NODE, REGION)
    assert audited[1]["by"] == f"join token {token.split('.')[1]}"
    assert token.split(".")[2] not in str(logs)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"region": "mars"}, 400, "unknown-region"),
        ({"region": REGION, "ttl_s": 90_000}, 400, "body-invalid"),
        ({"region": REGION, "names": ["a b"]}, 400, "body-invalid"),
        ({"region": REGION, "names": ["*.example.net"]}, 400, "body-invalid"),
        ({"region": REGION, "node": "A"}, 400, "body-invalid"),
        ({}, 400, "body-invalid"),
    ],
)
async def test_a_token_that_cannot_be_made(
    plane: Issuing, body: dict[str, object], status: int, code: str
) -> None:
    (await plane.api.call("POST", "/v1/node-tokens", body)).problem(status, code)


# ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def enrolment_stub(
    plane: Issuing,
) -> AsyncIterator["enrollment_pb2_grpc.EnrollmentServiceAsyncStub"]:
    credentials = grpc.ssl_channel_credentials(plane.issuer.authority.trusted())
    async with grpc.aio.secure_channel(f"{HOST}:{plane.enroll_port}", credentials) as channel:
        yield enrollment_pb2_grpc.EnrollmentServiceStub(channel)

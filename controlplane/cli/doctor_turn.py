"""Tries a TURN server as a client would: a real allocation, and addresses that it must not relay to.

Asking for a permission sends nothing to the peer (RFC 8656, section 10), so that trying is safe.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from aioice import stun, turn

from controlplane.cli.doctor_checks import TurnSeen
from controlplane.core.turn import TurnCredential

LIFETIME_S = 60
"""Of the allocation, should giving it back fail."""

FORBIDDEN = ("169.254.169.254", "127.0.0.1", "0.0.0.0", "192.0.2.1", "198.51.100.1", "224.0.0.1")  # noqa: S104
"""Cloud metadata, this machine, and addresses where no node can be: what is open to one of them is open to all."""


@dataclass(frozen=True, slots=True)
class TurnTarget:
    """One server by one transport."""

    host: str
    port: int
    transport: str
    """"udp", "tcp" or "tls"."""


@dataclass(frozen=True, slots=True)
class TurnTried:
    """What was seen, and when the TLS listener's certificate ends."""

    seen: TurnSeen
    certificate_ends: float | None = None


async def try_turn(target: TurnTarget, credential: TurnCredential | None) -> TurnTried:
    """Allocate, ask for what must not be, and give back. The caller bounds the time."""
    began = time.monotonic()
    try:
        client = await _open(target, credential)
    except ssl.SSLError as error:
        return TurnTried(TurnSeen(problem=f"TLS fails: {error.reason or error}"))
    except OSError as error:
        return TurnTried(TurnSeen(problem=error.strerror or str(error)))
    try:
        ends = _certificate_ends(client)
        seen = await _allocate(client, credential)
        return TurnTried(replace(seen, took_s=time.monotonic() - began), ends)
    except ConnectionError as error:
        return TurnTried(TurnSeen(problem=f"it breaks the connection: {error}"))
    finally:
        if client.refresh_task is not None:
            client.refresh_task.cancel()
        client.transport.close()


async def _open(target: TurnTarget, credential: TurnCredential | None) -> turn.TurnClientProtocol:
    server = (target.host, target.port)
    name, word = (credential.username, credential.credential) if credential else (None, None)
    loop = asyncio.get_running_loop()
    if target.transport == "udp":
        made: Callable[[], turn.TurnClientUdpProtocol] = lambda: turn.TurnClientUdpProtocol(  # noqa: E731
            server, name, word, LIFETIME_S, LIFETIME_S
        )
        return (await loop.create_datagram_endpoint(made, remote_addr=server))[1]
    context = ssl.create_default_context() if target.transport == "tls" else None
    _, tcp = await loop.create_connection(
        lambda: turn.TurnClientTcpProtocol(server, name, word, LIFETIME_S, LIFETIME_S),
        *server,
        ssl=context,
    )
    return tcp


async def _allocate(client: turn.TurnClientProtocol, credential: TurnCredential | None) -> TurnSeen:
    try:
        await client.connect()
    except stun.TransactionFailed as error:
        realm = str(error.response.attributes.get("REALM", ""))
        code = error.response.error_code or 0
        return TurnSeen(realm=realm, allocated=None if credential is None else False, error=code)
    except stun.TransactionTimeout:
        return TurnSeen(problem="no answer")
    opened = [peer for peer in FORBIDDEN if await _may_reach(client, peer)]
    await _request(client, stun.Method.REFRESH, {"LIFETIME": 0})
    return TurnSeen(realm=client.realm or "", allocated=True, open_peers=tuple(opened))


async def _may_reach(client: turn.TurnClientProtocol, peer: str) -> bool:
    try:
        await _request(client, stun.Method.CREATE_PERMISSION, {"XOR-PEER-ADDRESS": (peer, 9)})
    except stun.TransactionFailed:
        return False
    return True


async def _request(
    client: turn.TurnClientProtocol, method: stun.Method, attributes: dict[str, Any]
) -> None:
    message = stun.Message(message_method=method, message_class=stun.Class.REQUEST)
    message.attributes.update(attributes)
    await client.request_with_retry(message)


def _certificate_ends(client: turn.TurnClientProtocol) -> float | None:
    found = client.transport.get_extra_info("peercert")
    return ssl.cert_time_to_seconds(cast("str", found["notAfter"])) if found else None

"""A TURN client that a test runs on another host: `python -m tests.turn.client COMMAND` with JSON in and out.

It is a client that means ill where it has to be: it asks for peers that no browser would, by hand-made credentials.
"""

import asyncio
import ipaddress
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aioice import stun, turn

ANSWER_S = 8.0
PORTS = 3
"""Tries with another port of our own."""
FAMILY = "REQUESTED-ADDRESS-FAMILY"
IPV6 = 0x02000000

# RFC 8656, section 18.5, which aioice does not know.
stun.ATTRIBUTES_BY_TYPE[0x17] = (0x17, FAMILY, stun.pack_unsigned, stun.unpack_unsigned)
stun.ATTRIBUTES_BY_NAME[FAMILY] = stun.ATTRIBUTES_BY_TYPE[0x17]


def say(answer: object) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, _: object) -> None:
        self.heard.put_nowait(data)


async def open_client(order: dict[str, Any]) -> turn.TurnClientProtocol:
    """Connect to the server that an order names, without an allocation."""
    server = (order["host"], order["port"])
    loop = asyncio.get_running_loop()
    settings = (server, order.get("username"), order.get("credential"), 600, 500)
    if order.get("transport", "udp") == "udp":
        _, udp = await loop.create_datagram_endpoint(
            lambda: turn.TurnClientUdpProtocol(*settings), remote_addr=server
        )
        return udp
    context = None
    if order["transport"] == "tls":
        context = ssl.create_default_context(cafile=order["ca"])
    _, tcp = await loop.create_connection(
        lambda: turn.TurnClientTcpProtocol(*settings), *server, ssl=context,
        server_hostname=order.get("name") if context else None,
    )  # fmt: skip
    return tcp


async def tried(work: Awaitable[Any]) -> str:
    """Return "ok", or the error code of STUN."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await work
    except stun.TransactionFailed as error:
        return str(error.response.error_code)
    except TimeoutError:
        return "silence"
    return "ok"


async def request(client: turn.TurnClientProtocol, method: stun.Method, **attributes: Any) -> None:
    """Make one request; an underscore in a name stands for a hyphen."""
    message = stun.Message(message_method=method, message_class=stun.Class.REQUEST)
    for name, value in attributes.items():
        message.attributes[name.replace("_", "-")] = value
    await client.request_with_retry(message)


async def allocate6(client: turn.TurnClientProtocol) -> None:
    await request(
        client,
        stun.Method.ALLOCATE,
        LIFETIME=600,
        REQUESTED_TRANSPORT=turn.UDP_TRANSPORT,
        **{FAMILY: IPV6},
    )


async def allocate(order: dict[str, Any]) -> Any:
    """Open allocations, one after the other, all of them held; return what became of each."""
    results = []
    clients = []
    for _ in range(order.get("times", 1)):
        try:
            client = await open_client(order)
        except ConnectionRefusedError:
            return ["refused"]
        clients.append(client)
        results.append(await tried(client.connect()))
    for client in clients:
        if client.relayed_address is not None:
            await client.delete()
        client.transport.close()
    return results


async def allocate4(client: turn.TurnClientProtocol) -> None:
    await client.connect()


async def connected(
    order: dict[str, Any],
    allocate: Callable[[turn.TurnClientProtocol], Awaitable[None]] = allocate4,
) -> turn.TurnClientProtocol:
    """Return a client with an allocation.

    When its port was somebody's just before, the server says 437 and another one is to be taken (RFC 8656, 7.4).
    """
    for _ in range(PORTS):
        client = await open_client(order)
        answer = await tried(allocate(client))
        if answer == "ok":
            return client
        client.transport.close()
        assert answer == "437", f"no allocation: {answer}"
    raise AssertionError(f"{PORTS} ports were somebody's just before")


async def peers(order: dict[str, Any]) -> Any:
    """Ask for permission and a channel to each peer, over an allocation of the peer's family."""
    clients = {4: await connected(order), 6: await connected(order, allocate6)}
    results: dict[str, list[str]] = {}
    for number, peer in enumerate(order["peers"]):
        client = clients[ipaddress.ip_address(peer).version]
        address = (peer, 9999)
        results[peer] = [
            await tried(request(client, stun.Method.CREATE_PERMISSION, XOR_PEER_ADDRESS=address)),
            await tried(client.channel_bind(0x4000 + number, address)),
        ]
    for client in clients.values():
        await tried(request(client, stun.Method.REFRESH, LIFETIME=0))
        if client.refresh_task is not None:
            client.refresh_task.cancel()
        client.transport.close()
    return results


async def hold(order: dict[str, Any]) -> Any:
    """Keep an allocation with an echo going: a line for each line that comes in, until there is none more."""
    client = await connected(order)
    receiver = Receiver()
    client.receiver = receiver
    say("ok")
    peer = tuple(order["peer"])
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        refreshed = await tried(request(client, stun.Method.REFRESH, LIFETIME=600))
        bound = await tried(client.channel_bind(0x4000, peer))
        client.channel_to_peer[0x4000] = peer
        client.peer_to_channel[peer] = 0x4000
        client.channel_refresh_at[0x4000] = float("inf")
        echoed = 0
        for _ in range(5):
            await client.send_data(b"ping", peer)
            try:
                async with asyncio.timeout(1):
                    echoed += await receiver.heard.get() == b"ping"
            except TimeoutError:
                continue
        say({"refresh": refreshed, "bind": bound, "echoed": echoed})
    await client.delete()
    return "ended"


async def echo(order: dict[str, Any]) -> Any:
    """Send back every datagram, until stdin ends."""

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.transport.sendto(data, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        Echo, local_addr=(order["host"], order["port"])
    )
    say(transport.get_extra_info("sockname")[1])
    await loop.run_in_executor(None, sys.stdin.readline)
    transport.close()
    return "ended"


COMMANDS: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
    command.__name__: command for command in (allocate, peers, hold, echo)
}


async def main() -> None:
    """Do what the command line says."""
    say(await COMMANDS[sys.argv[1]](json.loads(sys.argv[2])))


if __name__ == "__main__":
    asyncio.run(main())

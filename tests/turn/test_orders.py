"""From the control plane's secrets and nodes, over the wire, to what a node hears."""

from dataclasses import replace

from controlplane.adapters.wire import snapshot_to_wire
from controlplane.core.model import NodeId
from controlplane.core.turn import LEAD_S, PERIOD_S, turn_credential, turn_user
from controlplane.services.turn_servers import TurnServers
from relay.api.turn_wire import turn_from_wire
from relay.turn.model import TurnOrders
from tests.fakes.turn import SteadyTurn
from tests.services.system import ROOM, System, three_regions


async def told(system: System, node: str) -> TurnOrders | None:
    snapshot = await system.fleet.snapshot(NodeId(node))
    message = snapshot_to_wire(snapshot, nonce="n")
    return turn_from_wire(message.turn) if message.HasField("turn") else None


async def test_a_node_hears_what_the_credentials_of_its_region_are_made_of() -> None:
    system = await three_regions(turn=SteadyTurn(b"m" * 32))
    joined = await system.join("ana", "frankfurt")
    orders = await told(system, joined.node.id)
    assert orders is not None
    (server,) = joined.ice_servers
    assert server.username is not None
    made = {
        turn_credential(
            secret.value,
            turn_user(ROOM, joined.assignment.participant),
            now=system.clock.now(),
        ).credential
        for secret in orders.secrets
    }
    assert server.credential in made
    assert orders.realm == joined.node.region


async def test_a_region_without_turn_hears_nothing() -> None:
    system = await three_regions(turn=SteadyTurn(b"m" * 32))
    joined = await system.join("bob", "virginia")
    assert joined.ice_servers == ()
    assert await told(system, joined.node.id) is None


async def test_the_version_grows_with_the_secrets_and_not_without() -> None:
    system = await three_regions(turn=SteadyTurn(b"m" * 32))
    node = (await system.join("ana", "frankfurt")).node.id
    versions = [(await system.fleet.snapshot(node)).version for _ in range(3)]
    assert len(set(versions)) == 1
    system.clock.advance(PERIOD_S + LEAD_S)
    assert (await system.fleet.snapshot(node)).version > versions[0]


async def test_peers_are_the_nodes_of_the_region() -> None:
    system = await three_regions(turn=SteadyTurn(b"m" * 32))
    first = await told(system, "fra-1")
    assert first is not None
    await system.serving("fra-2", "eu-frankfurt")
    for node in ("fra-2", "fra-1"):
        hosts = {
            one.media_host
            for one in (await system.store.nodes()).values()
            if one.region == "eu-frankfurt"
        }
        orders = await told(system, node)
        assert orders is not None
        assert set(orders.peers) == hosts


async def test_a_thousand_nodes_share_their_orders() -> None:
    system = await three_regions(turn=SteadyTurn(b"m" * 32))
    node = (await system.store.nodes())[NodeId("fra-1")]
    servers = TurnServers(system.topologies, SteadyTurn(b"m" * 32))
    now = system.clock.now()
    first = await servers.orders(node, [node], now)
    assert await servers.orders(node, [], now + 0.5) is first, "nothing is gathered"
    assert await servers.orders(node, [node], now + 1.5) is first, "gathered, and still the same"
    other = replace(node, id=NodeId("fra-2"), media_host="203.0.113.99")
    grown = await servers.orders(other, [node, other], now + 1.6)
    assert grown is not None
    assert "203.0.113.99" in grown.peers, "a new node is known at once"

"""The shape of a topology file, as strict models, and its way into the core's Topology.

regions/schema.json is generated from these models (`json_schema`), so that editors complete and check.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controlplane.core.addresses import parse_network
from controlplane.core.model import (
    LinkSeed,
    Location,
    Override,
    Policy,
    Region,
    RegionId,
    Topology,
    TurnServer,
)

RegionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Tag = Annotated[str, Field(min_length=1, max_length=63)]
Transport = Literal["udp", "tcp", "tls"]
Port = Annotated[int, Field(ge=1, le=65535)]


_DEFAULTS = Policy()


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class LocationModel(_Model):
    """A point on the globe."""

    lat: float = Field(ge=-90, le=90, description="Degrees north.")
    lon: float = Field(ge=-180, le=180, description="Degrees east.")


class NodesModel(_Model):
    """What a region should have; nodes register themselves."""

    desired: int = Field(default=1, ge=0, le=10_000, description="Nodes that Terraform provides.")
    capacity: int = Field(default=400, ge=1, le=100_000, description="Participants per node.")


class TurnServerModel(_Model):
    """A TURN server (RFC 8656) beside the nodes."""

    host: str = Field(min_length=1, max_length=253, description="DNS name or address.")
    port: Port = Field(default=3478, description="UDP and TCP port.")
    tls_port: Port = Field(
        default=443, description="TLS port; 443 passes firewalls that let only the web through."
    )


class TurnModel(_Model):
    """The TURN servers of a region."""

    servers: list[TurnServerModel] = Field(default_factory=list, max_length=16)
    transports: list[Transport] = Field(
        default=["udp", "tcp", "tls"],
        min_length=1,
        max_length=3,
        description="What is offered to clients, in this order.",
    )


class RegionModel(_Model):
    """A place with nodes."""

    title: str | None = Field(
        default=None, min_length=1, max_length=80, description="Name for people; the id if absent."
    )
    location: LocationModel = Field(description="Where it is; distances are computed from it.")
    residency: list[Tag] = Field(
        default_factory=list, max_length=32, description="Tags that a join may require."
    )
    provider: str | None = Field(
        default=None, min_length=1, max_length=63, description="Whose network it is in."
    )
    nodes: NodesModel = Field(default_factory=NodesModel)
    turn: TurnModel = Field(default_factory=TurnModel)


class LinkModel(_Model):
    """What is known of the path between two regions, in both directions."""

    between: list[RegionName] = Field(min_length=2, max_length=2, description="Two regions.")
    rtt_ms: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Round trip in milliseconds, until it is measured.",
    )
    cost_per_gb: float | None = Field(default=None, ge=0, description="Price of a gigabyte.")


class OverrideModel(_Model):
    """Addresses that belong to a region whatever a GeoIP database says."""

    cidr: str = Field(max_length=64, description="For example 10.20.0.0/16; longest prefix wins.")
    region: RegionName


class PolicyModel(_Model):
    """The knobs of placement."""

    edge_weight: float = Field(
        default=_DEFAULTS.edge_weight, ge=0, le=10,
        description="Weight of a millisecond of access round trip beside one of delay.",
    )  # fmt: skip
    rehome_gain_ms: float = Field(
        default=_DEFAULTS.rehome_gain_ms, ge=0, le=10_000,
        description="Least gain of the room's mean delay for which a participant is moved.",
    )  # fmt: skip
    rehomes_per_room: int = Field(
        default=_DEFAULTS.rehomes_per_room, ge=0, le=1000,
        description="People of one room who may be moved for a better place within a minute.",
    )  # fmt: skip
    rehomes_per_fleet: int = Field(
        default=_DEFAULTS.rehomes_per_fleet, ge=0, le=100_000,
        description="The same over all rooms.",
    )  # fmt: skip
    probe_regions: int = Field(
        default=_DEFAULTS.probe_regions,
        ge=1,
        le=7,
        description="Regions that a client is asked to measure.",
    )


class TopologyModel(_Model):
    """A thalweg topology: regions, links between them, overrides, policy."""

    version: Literal[1] = Field(description="Version of this format.")
    regions: dict[RegionName, RegionModel] = Field(min_length=1, max_length=200)
    links: list[LinkModel] = Field(default_factory=list, max_length=5000)
    overrides: list[OverrideModel] = Field(default_factory=list, max_length=5000)
    policy: PolicyModel = Field(default_factory=PolicyModel)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a topology file."""
    schema = TopologyModel.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def to_topology(model: TopologyModel) -> Topology:
    """Return the core's value of a checked model; its references have to be checked already."""
    return Topology(
        regions={RegionId(id_): _region(id_, region) for id_, region in model.regions.items()},
        links=tuple(
            LinkSeed(
                (RegionId(link.between[0]), RegionId(link.between[1])),
                link.rtt_ms,
                link.cost_per_gb,
            )
            for link in model.links
        ),
        overrides=tuple(
            Override(parse_network(one.cidr), RegionId(one.region)) for one in model.overrides
        ),
        policy=Policy(**model.policy.model_dump()),
    )


def _region(id_: str, model: RegionModel) -> Region:
    return Region(
        id=RegionId(id_),
        title=model.title or id_,
        location=Location(model.location.lat, model.location.lon),
        residency=frozenset(model.residency),
        provider=model.provider,
        desired_nodes=model.nodes.desired,
        node_capacity=model.nodes.capacity,
        turn_servers=tuple(TurnServer(s.host, s.port, s.tls_port) for s in model.turn.servers),
        turn_transports=tuple(dict.fromkeys(model.turn.transports)),
    )

"""Why a join or a look was refused, as errors that reach the caller."""

from controlplane.core.allocate import RefusalKind, Refused
from controlplane.core.identity import bare
from controlplane.core.model import Join, NodeId, ParticipantId, RoomId
from controlplane.core.world import World
from controlplane.errors import (
    ConflictError,
    ControlPlaneError,
    InvalidInputError,
    NotFoundError,
    ResidencyError,
    UnavailableError,
)


def check_regions(join: Join, world: World) -> None:
    """Raise InvalidInputError ("unknown-region") if the join requires a region that nobody declared."""
    unknown = sorted(join.require.regions - frozenset(world.topology.regions))
    if unknown:
        raise InvalidInputError(
            "unknown-region",
            f"The join requires {', '.join(unknown)}, which the topology does not declare.",
            f"Declared are: {', '.join(sorted(world.topology.regions))}.",
        )


def refusal_error(refused: Refused, join: Join) -> ControlPlaneError:
    """Return the error for a placement that found no node; its detail names each node's rule."""
    detail = f"Nobody can take {join.participant}. {'. '.join(refused.because)}."
    if refused.kind is RefusalKind.RESIDENCY:
        return ResidencyError(
            "residency-unsatisfied",
            detail,
            "Add nodes in a region that carries the tags, or require less.",
            extra={"allowed_regions": list(refused.allowed_regions)},
        )
    if refused.kind is RefusalKind.NO_NODES:
        return UnavailableError(
            "no-nodes", detail, "Start thalweg-relay processes, or see why they are not serving."
        )
    return UnavailableError("no-capacity", detail, "Try again later, or add nodes.")


def no_participant(room: RoomId, participant: ParticipantId) -> NotFoundError:
    """Return the error for a participant that has no live assignment."""
    return NotFoundError(
        "participant-not-found",
        f"There is no participant {participant} in room {bare(room)}.",
        "It left, its lease expired, or it never joined; PUT the same path to join.",
    )


def no_node(node: NodeId) -> NotFoundError:
    """Return the error for a node that never registered or was forgotten."""
    return NotFoundError(
        "node-not-found",
        f"There is no node {node}.",
        "GET /v1/nodes lists those that registered; a node that is lost for long is forgotten.",
    )


def not_drainable(node: NodeId, why: str) -> ConflictError:
    """Return the error for a node that is lost."""
    return ConflictError(
        "node-not-drainable",
        f"Node {node} is lost ({why}); nobody is on it.",
        "Nothing has to be drained.",
    )

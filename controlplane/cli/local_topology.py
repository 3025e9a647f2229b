"""The topology of a local system: the demo's, unless another file is given."""

from dataclasses import dataclass
from pathlib import Path

from controlplane.adapters.assets import regions_dir
from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.cli.local_setup import LocalSetupError
from controlplane.core.model import LinkSeed, Topology

OWN_RTT_MS = 5.0
"""From somebody who is beside a region to its nodes."""


@dataclass(frozen=True, slots=True)
class LocalTopology:
    """A topology file that was read and found good."""

    path: Path
    topology: Topology


def load_local_topology(path: Path | None = None) -> LocalTopology:
    """Read a topology file, the demo's for None. Raises LocalSetupError with every mistake and its line."""
    try:
        path = (path or regions_dir() / "demo.yaml").resolve()
        topology = parse_topology(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise LocalSetupError(
            f"cannot read the topology {path or 'of the demo'}: {error}"
        ) from error
    except TopologyError as error:
        mistakes = "\n".join(str(problem) for problem in error.problems)
        raise LocalSetupError(f"{path} has mistakes:\n{mistakes}") from error
    return LocalTopology(path, topology)


def pretended_probes(topology: Topology, place: str) -> dict[str, float]:
    """Return what somebody beside the region `place` would measure: round trips in milliseconds, by region.

    The declared ones of the topology, plus the way to the own region. Regions without a declared one are left out.
    """
    probes = {place: OWN_RTT_MS}
    for link in topology.links:
        if link.rtt_ms is not None and (other := _other_end(link, place)):
            probes[other] = link.rtt_ms + OWN_RTT_MS
    return probes


def _other_end(link: LinkSeed, place: str) -> str | None:
    one, two = link.between
    return two if one == place else one if two == place else None

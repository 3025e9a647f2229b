"""What the headless demo found: as JSON for programs, as tables for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from controlplane.cli.demo_tally import Received


@dataclass(frozen=True, slots=True)
class ParticipantReport:
    """One participant, where it sat and what it decoded of each other one."""

    id: str
    place: str
    node: str
    region: str
    decision: Mapping[str, Any]
    received: Mapping[str, Received]


@dataclass(frozen=True, slots=True)
class Failover:
    """What happened when a node was killed in mid-call."""

    killed_node: str
    participant: str
    to: str | None
    """Its new node; None if it did not get one in time."""
    seconds_until_all_decode: float | None
    """From the kill until everybody had decoded video and audio of everybody anew; None if that did not happen."""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form; `from` is no name in Python."""
        return {
            "killed_node": self.killed_node,
            "participant": self.participant,
            "from": self.killed_node,
            "to": self.to,
            "seconds_until_all_decode": self.seconds_until_all_decode,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result."""

    problems: Sequence[str]
    """Why it is not ok; empty when it is."""
    participants: Sequence[ParticipantReport]
    links: Sequence[Mapping[str, Any]]
    failover: Failover | None

    @property
    def ok(self) -> bool:
        """Whether everything came through as it should."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the document that `thalweg demo --json` prints."""
        return {
            "ok": self.ok,
            "participants": [
                {
                    "id": one.id,
                    "place": one.place,
                    "region": one.region,
                    "node": one.node,
                    "decision": dict(one.decision),
                    "received": {
                        peer: {
                            "video_frames": received.video_frames,
                            "audio_frames": received.audio_frames,
                            "trunk_hops": received.trunk_hops,
                        }
                        for peer, received in one.received.items()
                    },
                }
                for one in self.participants
            ],
            "links": [
                {key: link[key] for key in ("from", "to", "tracks", "packets", "repaired")}
                for link in self.links
            ],
            "failover": self.failover.as_json() if self.failover else None,
        }


def print_report(console: Console, report: Report) -> None:
    """Print decisions, frames and links as tables, then the verdict."""
    console.print(_decisions(report))
    console.print(_frames(report))
    console.print(_links(report))
    if report.failover:
        console.print(_failover(report.failover))
    if report.ok:
        console.print(
            "[bold green]ok[/]: everybody decoded video and audio of everybody else, through one trunk hop each."
        )
    for problem in report.problems:
        console.print(f"[bold red]failed[/]: {escape(problem)}")


def _decisions(report: Report) -> Table:
    table = Table("participant", "place", "node", "why", title="Decisions", title_justify="left")
    for one in report.participants:
        table.add_row(one.id, one.place, one.node, escape("\n".join(one.decision["because"])))
    return table


def _frames(report: Report) -> Table:
    table = Table(title="Frames decoded", title_justify="left")
    for heading in ("at", "from", "trunk hops", "video", "audio"):
        table.add_column(heading, justify="left" if heading in ("at", "from") else "right")
    for one in report.participants:
        for peer, received in one.received.items():
            hops = "-" if received.trunk_hops is None else str(received.trunk_hops)
            video, audio = str(received.video_frames), str(received.audio_frames)
            table.add_row(one.id, peer, hops, video, audio)
    return table


def _links(report: Report) -> Table:
    table = Table(title="Links", title_justify="left")
    for heading in ("from", "to", "tracks", "packets", "repaired"):
        table.add_column(heading, justify="left" if heading in ("from", "to") else "right")
    for link in report.links:
        tracks = str(len(link["tracks"]))
        table.add_row(link["from"], link["to"], tracks, str(link["packets"]), str(link["repaired"]))
    return table


def _failover(failover: Failover) -> str:
    took = failover.seconds_until_all_decode
    end = f"everybody decoded again after {took:.1f} s" if took is not None else "no recovery"
    to = failover.to or "nowhere"
    return (
        f"Fail-over: {failover.killed_node} was killed; {failover.participant} went to {to}; {end}."
    )

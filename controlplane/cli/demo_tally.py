"""Counts what a headless participant decoded, and says what is still missing. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Received:
    """Decoded frames from one other participant."""

    video_frames: int = 0
    audio_frames: int = 0
    hops: set[int] = field(default_factory=set)
    """Every number of trunk hops that was behind a slot while a frame came out of it."""

    @property
    def trunk_hops(self) -> int | None:
        """The number of hops; when there were several, the first that is not one. None before the first frame."""
        return next((hops for hops in sorted(self.hops) if hops != 1), 1) if self.hops else None


@dataclass(slots=True)
class Tally:
    """Decoded frames of one participant, by who sent them."""

    by_peer: dict[str, Received] = field(default_factory=dict)

    def count(self, kind: str, peer: str, hops: int) -> None:
        """Add one decoded frame; `kind` is "video" or "audio"."""
        received = self.by_peer.setdefault(peer, Received())
        received.hops.add(hops)
        if kind == "video":
            received.video_frames += 1
        else:
            received.audio_frames += 1

    def forget(self, peer: str | None = None) -> None:
        """Begin anew, for one sender or for all."""
        if peer is None:
            self.by_peer.clear()
        else:
            self.by_peer.pop(peer, None)

    def missing(self, peers: Iterable[str]) -> str:
        """Say what has not been decoded yet, or return ""."""
        absent = []
        for peer in peers:
            received = self.by_peer.get(peer, Received())
            kinds = [] if received.video_frames else ["video"]
            kinds += [] if received.audio_frames else ["audio"]
            if kinds:
                absent.append(f"{' and '.join(kinds)} of {peer}")
        return ", ".join(absent)

    def detours(self, peers: Iterable[str]) -> str:
        """Say whose frames did not all come through exactly one trunk hop, or return ""."""
        wrong = [
            f"{peer} came over {hops} trunk hops"
            for peer in peers
            for hops in sorted(self.by_peer.get(peer, Received()).hops)
            if hops != 1
        ]
        return ", ".join(wrong)

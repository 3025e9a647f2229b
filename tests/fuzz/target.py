"""What a fuzz target is: bytes in, nothing out, and no exception but those that its parser documents."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One parser behind an open port."""

    run: Callable[[bytes], None]
    """Raises only when something is wrong with the parser."""
    seeds: tuple[bytes, ...]
    """Valid input, and what once broke a parser, to begin mutations from."""

"""Offers of real clients, as they were recorded."""

from pathlib import Path


def recorded(name: str) -> str:
    """Return an offer with the line ends that it had."""
    return (Path(__file__).parent / f"{name}.sdp").read_text().replace("\n", "\r\n")

"""Datagrams that nobody honest sends."""

from collections.abc import Sequence
from random import Random

LARGEST = 1400


def mutated(dice: Random, sample: bytes) -> bytes:
    """Return the datagram with a fault, or rubbish. Never an authentic STUN message: replay is another matter."""
    what = dice.randrange(5)
    if what == 0:
        return dice.randbytes(dice.randrange(1, LARGEST))
    if what == 1:
        return sample[: dice.randrange(1, len(sample))]
    changed = bytearray(sample)
    for _ in range(dice.randrange(1, 6)):
        changed[dice.randrange(len(changed) - 8)] ^= dice.randrange(1, 256)
    return bytes(changed) + (dice.randbytes(dice.randrange(64)) if what == 2 else b"")


def pool(dice: Random, samples: Sequence[bytes], size: int) -> list[bytes]:
    """Return so many of them."""
    return [mutated(dice, dice.choice(samples)) for _ in range(size)]

"""A dict for as many entries as there are people, which the cycle collector looks at once and not again and again."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BigDict(dict[K, V]):
    """A dict that the collector keeps track of, whatever is in it.

    A plain dict that it finds to hold no containers it drops, and takes up again with the next new key that is a
    tuple: as new, whatever was set aside before (adapters/garbage.py), so that each look would go through all of it.
    """

    __slots__ = ()

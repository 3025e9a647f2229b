"""The Lua scripts: every atomic step is one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

Name = Literal[
    "admit", "end", "event", "hint", "learn", "numbers", "push", "push_end", "put_token", "replica", "tail",
    "take_token", "topology",
]  # fmt: skip

FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True, slots=True)
class Scripts:
    """All scripts by name, and what EVALSHA names them by."""

    texts: Mapping[Name, str]
    shas: Mapping[Name, str]

    @classmethod
    def load(cls) -> "Scripts":
        """Read them from the package; blocks for a disk."""
        common = (FOLDER / "common.lua").read_text("utf-8")
        names: tuple[Name, ...] = get_args(Name)
        return cls.of(
            {name: common + (FOLDER / f"{name}.lua").read_text("utf-8") for name in names}
        )

    @classmethod
    def of(cls, texts: Mapping[Name, str]) -> "Scripts":
        """Return these scripts."""
        shas = {
            name: sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in texts.items()
        }
        return cls(MappingProxyType(dict(texts)), MappingProxyType(shas))

"""The keys that sign participant tokens, as the last snapshot named them."""

from collections.abc import Mapping
from types import MappingProxyType


class TokenKeys:
    """Holds kid → raw Ed25519 public key (RFC 8032, 32 bytes); the agent replaces all of them at once."""

    def __init__(self) -> None:
        self.keys: Mapping[str, bytes] = MappingProxyType({})

    def replace(self, keys: Mapping[str, bytes]) -> None:
        """Trust these keys and no others from now on."""
        self.keys = MappingProxyType(dict(keys))

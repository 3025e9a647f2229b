"""Writes small MMDB files (MaxMind DB format 2.0), so that tests read what no package carries."""

import ipaddress
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SEPARATOR = b"\x00" * 16
MARKER = b"\xab\xcd\xefMaxMind.com"

INTEGERS = {
    "binary_format_major_version": "uint16",
    "binary_format_minor_version": "uint16",
    "build_epoch": "uint64",
    "ip_version": "uint16",
    "record_size": "uint16",
}
"""Members whose integers have another width than 32 bits; libmaxminddb insists on it."""

Tree = list[list[Any]]


def write_mmdb(
    path: Path,
    kind: str,
    records: Mapping[str, Any],
    *,
    ip_version: int = 6,
    built_at: int = 1_700_000_000,
) -> Path:
    """Write a database of type `kind` with one record per CIDR; IPv4 goes to ::/96 when `ip_version` is 6."""
    nodes: Tree = [[None, None]]
    data = b""
    for cidr, record in records.items():
        network = ipaddress.ip_network(cidr)
        bits = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
        if ip_version == 6 and network.version == 4:
            bits = "0" * 96 + bits
        _insert(nodes, bits, len(data))
        data += _encode(record)
    metadata = {
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": built_at,
        "database_type": kind,
        "description": {"en": "for tests"},
        "ip_version": ip_version,
        "languages": ["en"],
        "node_count": len(nodes),
        "record_size": 32,
    }
    path.write_bytes(_tree(nodes) + SEPARATOR + data + MARKER + _encode(metadata))
    return path


def _insert(nodes: Tree, bits: str, offset: int) -> None:
    index = 0
    for bit in bits[:-1]:
        below = nodes[index][int(bit)]
        if below is None:
            nodes.append([None, None])
            below = nodes[index][int(bit)] = len(nodes) - 1
        index = below
    nodes[index][int(bits[-1])] = ("data", offset)


def _tree(nodes: Tree) -> bytes:
    def record(value: Any) -> int:
        if value is None:
            return len(nodes)
        if isinstance(value, tuple):
            return len(nodes) + len(SEPARATOR) + int(value[1])
        return int(value)

    return b"".join(struct.pack(">II", record(left), record(right)) for left, right in nodes)


def _encode(value: Any) -> bytes:
    if isinstance(value, str):
        raw = value.encode()
        return _control(2, len(raw)) + raw
    if isinstance(value, float):
        return _control(3, 8) + struct.pack(">d", value)
    if isinstance(value, int):
        return _integer("uint32", value)
    if isinstance(value, list):
        return bytes([len(value), 11 - 7]) + b"".join(map(_encode, value))
    pairs = b"".join(
        _encode(key) + (_integer(INTEGERS[key], item) if key in INTEGERS else _encode(item))
        for key, item in value.items()
    )
    return _control(7, len(value)) + pairs


def _integer(kind: str, value: int) -> bytes:
    if kind == "uint16":
        return _control(5, 2) + struct.pack(">H", value)
    if kind == "uint32":
        return _control(6, 4) + struct.pack(">I", value)
    return bytes([8, 9 - 7]) + struct.pack(">Q", value)


def _control(kind: int, size: int) -> bytes:
    assert size < 285
    return bytes([kind << 5 | size]) if size < 29 else bytes([kind << 5 | 29, size - 29])

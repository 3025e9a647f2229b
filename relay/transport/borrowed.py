"""Names of other libraries that are not documented as theirs to give, all in one place.

- `aioice.stun`: reads and writes STUN messages (RFC 8489). aioice 0.13 raises struct.error on a short
  attribute; callers catch `STUN_ERRORS`.
- `pylibsrtp._binding`: libsrtp's own functions. `pylibsrtp.Session` refuses RTP packets over 1356 bytes, which
  GStreamer sends, and costs 0.6 µs a packet more.

`self_test` runs at start, so that a release that moved something is found there and not in the first call.
"""

import inspect
import struct
from typing import Any

import aioice.stun
from pylibsrtp import _binding

stun = aioice.stun
srtp_library: Any = _binding.lib
srtp_ffi: Any = _binding.ffi

STUN_ERRORS = (ValueError, struct.error, KeyError)
"""What parsing a hostile STUN message may raise; UnicodeDecodeError is a ValueError."""

_LIBSRTP = ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp")


def self_test() -> None:
    """Raise RuntimeError, naming what is missing, if a borrowed name is not what it was."""
    missing = [
        f"pylibsrtp._binding.lib.{name}" for name in _LIBSRTP if not hasattr(srtp_library, name)
    ]
    parse = inspect.signature(stun.parse_message).parameters
    if list(parse)[:2] != ["data", "integrity_key"]:
        missing.append("aioice.stun.parse_message(data, integrity_key)")
    missing += [
        f"aioice.stun.{name}" for name in ("Message", "Method", "Class") if not hasattr(stun, name)
    ]
    if missing:
        raise RuntimeError(
            f"installed versions of aioice or pylibsrtp do not have {', '.join(missing)}: "
            "install the versions of requirements.lock"
        )

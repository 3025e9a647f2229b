"""Names of other libraries that are not documented as theirs to give, all in one place.

`pylibsrtp._binding` holds libsrtp's own functions. `pylibsrtp.Session` refuses RTP packets over 1356 bytes,
which GStreamer sends, and costs 0.6 µs a packet more.

`self_test` runs at start, so that a release that moved something is found there and not in the first call.
"""

from typing import Any

import pylibsrtp
from pylibsrtp import _binding

srtp_library: Any = _binding.lib
srtp_ffi: Any = _binding.ffi

_FUNCTIONS = ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp")


def srtp_handle(session: pylibsrtp.Session) -> Any:
    """Return libsrtp's `srtp_t` of a session, which goes on owning it."""
    return session._srtp[0]  # noqa: SLF001 - this is the place for it


def self_test() -> None:
    """Raise RuntimeError, naming what is missing, if a borrowed name is not what it was."""
    missing = [
        f"pylibsrtp._binding.lib.{name}" for name in _FUNCTIONS if not hasattr(srtp_library, name)
    ]
    if not hasattr(pylibsrtp.Session(), "_srtp"):
        missing.append("pylibsrtp.Session._srtp")
    if missing:
        raise RuntimeError(
            f"the installed pylibsrtp has no {', '.join(missing)}: install the versions of requirements.lock"
        )

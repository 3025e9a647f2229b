"""SRTP and SRTCP (RFC 3711, 7714) for one direction of one session."""

from contextlib import suppress
from enum import Enum

from pylibsrtp import Error as LibsrtpError
from pylibsrtp import Policy, Session

from relay.transport.borrowed import srtp_ffi, srtp_handle, srtp_library


class SrtpError(Exception):
    """A packet that does not authenticate, was replayed, or cannot be processed."""


class Profile(Enum):
    """A protection profile: its OpenSSL name, its libsrtp number, and the bytes of its key and salt."""

    AEAD_AES_256_GCM = (b"SRTP_AEAD_AES_256_GCM", Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12)
    AEAD_AES_128_GCM = (b"SRTP_AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12)
    AES128_CM_SHA1_80 = (b"SRTP_AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14)

    def __init__(self, openssl_name: bytes, number: int, key_bytes: int, salt_bytes: int) -> None:
        self.openssl_name = openssl_name
        self.number = number
        self.key_bytes = key_bytes
        self.salt_bytes = salt_bytes


REPLAY_WINDOW = 1024
"""Packets. A repair may come that much later than its neighbours: four seconds of 250 packets/s."""

_BUFFER_BYTES = 2048
_TRAILER_BYTES = 148  # of SRTCP: index, longest tag, longest MKI
MAX_PACKET = _BUFFER_BYTES - _TRAILER_BYTES
"""Largest packet in bytes; an Ethernet frame carries at most 1472."""

# One event loop runs one packet at a time, so every session shares one buffer.
_cdata = srtp_ffi.new("char[]", _BUFFER_BYTES)
_buffer = srtp_ffi.buffer(_cdata)
_length = srtp_ffi.new("int *")


class SrtpContext:
    """Protects what is sent, or opens what is received, with one master key.

    Packets may be sent again unchanged (`allow_repeat_tx`): that is how a trunk repairs loss.
    """

    def __init__(self, profile: Profile, key_and_salt: bytes, *, outbound: bool) -> None:
        if len(key_and_salt) != profile.key_bytes + profile.salt_bytes:
            raise SrtpError(
                f"{profile.name} takes {profile.key_bytes}+{profile.salt_bytes} bytes of key and salt"
            )
        policy = Policy(
            key=key_and_salt,
            ssrc_type=Policy.SSRC_ANY_OUTBOUND if outbound else Policy.SSRC_ANY_INBOUND,
            srtp_profile=profile.number,
        )
        policy.allow_repeat_tx = True
        policy.window_size = REPLAY_WINDOW
        self._session = Session(policy)  # owns the libsrtp session, which it frees
        self._srtp = srtp_handle(self._session)

    def protect(self, packet: bytes) -> bytes:
        """Return the SRTP packet. Raises `SrtpError`."""
        return self._run(srtp_library.srtp_protect, packet)

    def unprotect(self, packet: bytes) -> bytes:
        """Return the RTP packet. Raises `SrtpError`."""
        return self._run(srtp_library.srtp_unprotect, packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet. Raises `SrtpError`."""
        return self._run(srtp_library.srtp_protect_rtcp, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the RTCP packet. Raises `SrtpError`."""
        return self._run(srtp_library.srtp_unprotect_rtcp, packet)

    def forget(self, ssrc: int) -> None:
        """Free the state of a stream that is over; its SSRC must not come again under this key.

        libsrtp keeps one per SSRC for ever, in a list that it walks for each packet.
        """
        with suppress(LibsrtpError):  # a stream that never sent has no state
            self._session.remove_stream(ssrc)

    def _run(self, function: object, packet: bytes) -> bytes:
        size = len(packet)
        if size > MAX_PACKET:
            raise SrtpError(f"{size} bytes are more than {MAX_PACKET}")
        _buffer[0:size] = packet
        _length[0] = size
        status = function(self._srtp, _cdata, _length)  # type: ignore[operator]
        if status:
            raise SrtpError(f"libsrtp status {status}")
        return bytes(_buffer[0 : _length[0]])

"""Errors that reach a caller: each has a stable code, the HTTP status it maps to, and a next step.

The code is part of the API: clients may switch on it, so it never changes its meaning.
"""

from collections.abc import Mapping
from typing import Any


class ControlPlaneError(Exception):
    """Something a caller is told about. Raise one of the subclasses.

    `code` is stable, `detail` says what is wrong with this request, `hint` what to do next.
    """

    status = 500

    def __init__(
        self, code: str, detail: str, hint: str = "", *, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.extra: Mapping[str, Any] = extra or {}
        """Further members of the problem document, for programs."""


class InvalidInputError(ControlPlaneError):
    """The request is not well formed."""

    status = 400


class UnauthenticatedError(ControlPlaneError):
    """The caller did not say who it is, or not credibly."""

    status = 401


class ForbiddenError(ControlPlaneError):
    """The caller is known and may not do this."""

    status = 403


class NotFoundError(ControlPlaneError):
    """There is no such thing."""

    status = 404


class ConflictError(ControlPlaneError):
    """The state moved on, or belongs to somebody else; read it again and decide anew."""

    status = 409


class ResidencyError(ControlPlaneError):
    """No region that the residency rule allows can take the participant (RFC 7725)."""

    status = 451


class UnavailableError(ControlPlaneError):
    """Nothing can take the request now; a later try may succeed."""

    status = 503

    def __init__(self, code: str, detail: str, hint: str = "", *, retry_after_s: int = 2) -> None:
        super().__init__(code, detail, hint)
        self.retry_after_s = retry_after_s


class TooManyRequestsError(UnavailableError):
    """The caller asks more often than it may (RFC 6585, section 4)."""

    status = 429


class PreconditionFailedError(ControlPlaneError):
    """The caller's If-Match names a version that is no longer the current one (RFC 9110, 13.1.1)."""

    status = 412

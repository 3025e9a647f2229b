"""Errors that reach a client or another node: a stable code, the HTTP status, and a next step."""


class RelayError(Exception):
    """Something a caller is told about; raise one of the subclasses.

    `code` is stable, `detail` says what is wrong with this request, `hint` what to do next.
    """

    status = 500

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint


class InvalidInputError(RelayError):
    """The request is not well formed."""

    status = 400


class UnauthenticatedError(RelayError):
    """There is no token, or not a credible one."""

    status = 401


class ForbiddenError(RelayError):
    """The token is genuine and not good for this."""

    status = 403


class NotFoundError(RelayError):
    """There is no such session."""

    status = 404


class TooSlowError(RelayError):
    """The request did not come to its end in time."""

    status = 408


class ConflictError(RelayError):
    """A newer assignment of the participant exists."""

    status = 409


class ContentTypeError(RelayError):
    """The body is not of the type that this resource takes."""

    status = 415


class UnsupportedError(RelayError):
    """The offer asks for something that this node cannot do."""

    status = 422


class TooManyRequestsError(RelayError):
    """The address asks more often than anybody needs (RFC 6585, section 4)."""

    status = 429


class UnavailableError(RelayError):
    """The node takes nobody now."""

    status = 503

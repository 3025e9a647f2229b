"""Our errors as gRPC statuses; the stable code leads the details."""

from typing import NoReturn, TypeVar

import grpc
from grpc.aio import ServicerContext

from controlplane.errors import ControlPlaneError

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

MAX_DETAILS = 1000
"""Characters: HTTP/2 peers take 8 kB of trailers, and three bytes become nine when they are percent-encoded."""

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    451: grpc.StatusCode.FAILED_PRECONDITION,
    503: grpc.StatusCode.UNAVAILABLE,
}


async def abort(
    context: ServicerContext[_Request, _Response], error: ControlPlaneError
) -> NoReturn:
    """End a call with an error: details are "CODE: sentence; hint", cut to MAX_DETAILS."""
    details = f"{error.code}: {error.detail}" + (f"; {error.hint}" if error.hint else "")
    await context.abort(_STATUS.get(error.status, grpc.StatusCode.INTERNAL), details[:MAX_DETAILS])

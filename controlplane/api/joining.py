"""One join, counted and timed, whichever door it came through."""

import time

from controlplane.api.context import ApiContext
from controlplane.core.model import Join
from controlplane.errors import ControlPlaneError
from controlplane.services.answers import Joined


async def join(context: ApiContext, request: Join) -> Joined:
    """Return the answer to a join. Raises what Joins.join raises."""
    begun = time.perf_counter()
    result = "error"
    try:
        joined = await context.joins.join(request)
        result = "created" if joined.created else "repeated"
    except ControlPlaneError as error:
        result = error.code
        raise
    else:
        return joined
    finally:
        context.metrics.joins.labels(result).inc()
        context.metrics.decision_seconds.observe(time.perf_counter() - begun)

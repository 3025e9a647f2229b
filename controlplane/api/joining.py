"""One join, counted and timed, whichever door it came through."""

import time
from collections.abc import Hashable

from controlplane.api.context import ApiContext
from controlplane.core.identity import Caller
from controlplane.core.model import Join
from controlplane.core.shedding import Cost
from controlplane.errors import ControlPlaneError
from controlplane.services.answers import Joined


async def join(context: ApiContext, caller: Caller, request: Join) -> Joined:
    """Return the answer to a join. Raises what Joins.join and Overload raise."""
    begun = time.perf_counter()
    result = "error"
    try:
        cost = Cost.REPEAT if await context.joins.is_repeat(request) else Cost.JOIN
        context.overload.charge(caller.tenant, cost)
        async with context.overload.place(cost):
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


async def join_again(context: ApiContext, caller: Caller, asked: Hashable) -> str | None:
    """Return what was answered to this very request just before, if it still holds. Raises what Overload raises."""
    begun = time.perf_counter()
    kept = context.repeats.find(asked, now=context.clock.now())
    if kept is None or not await context.joins.stands(kept.seat):
        return None
    context.overload.charge(caller.tenant, Cost.REPEAT)
    context.metrics.repeats.inc()
    context.metrics.decision_seconds.observe(time.perf_counter() - begun)
    return kept.text

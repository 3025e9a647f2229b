"""Who changed what: one log line for each operator's change, whether it was done or refused."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from controlplane.errors import ControlPlaneError

log = structlog.get_logger(__name__)


@contextmanager
def audited(action: str, by: str, **facts: object) -> Iterator[dict[str, object]]:
    """Log an action of the API key named `by` with its result; the block may add facts to what it is given."""
    known = dict(facts)
    try:
        yield known
    except ControlPlaneError as error:
        log.warning("audit", action=action, by=by, result=error.code, **known)
        raise
    log.info("audit", action=action, by=by, result="done", **known)

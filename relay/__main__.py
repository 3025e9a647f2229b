"""`thalweg-relay`: run a node."""

import os
import sys
from collections.abc import Sequence

# Before gRPC is imported: no child of ours goes on in Python, and each that uvloop forks would be a line in the log.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

from relay.config import SettingsError, load_settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGINT or SIGTERM; exit 2 for settings that cannot work."""
    try:
        settings = load_settings(arguments)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"thalweg-relay: {problem}\n")
        sys.exit(2)
    from relay.app import serve  # noqa: PLC0415 - --help and mistakes need none of it

    sys.exit(serve(settings))


if __name__ == "__main__":
    main()

"""One fuzz target in a process of its own, with libFuzzer watching which branches an input takes.

    python -m tests.bench.fuzz_one NAME SECONDS FOLDER

FOLDER keeps the inputs that found something new, and what made it fail.
"""

import importlib
import logging
import sys
from pathlib import Path

import atheris
import structlog

MODULES = ("tests.fuzz.datagrams", "tests.fuzz.texts", "tests.fuzz.messages")
MAX_BYTES = 4096


def main() -> None:
    """Fuzz; ends the process, with 0 if nothing was found."""
    name, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    with atheris.instrument_imports(include=["relay", "controlplane", "guard"]):
        found = (importlib.import_module(module).TARGETS for module in MODULES)
        target = next(targets[name] for targets in found if name in targets)
    logging.disable()  # a line for each bad input would be most of the work
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    arguments = [
        sys.argv[0], str(folder), f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={folder}/failed-", "-timeout=5", "-rss_limit_mb=1024",
    ]  # fmt: skip
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Usage: python tether.py PARENT_PID COMMAND…: become COMMAND, and die with the process that asked for it.

`thalweg up` starts every child through this file, so that nothing is left running even when the supervisor itself
is killed with SIGKILL and cannot clean up. It is run by path, imports nothing of this package, and costs a few
milliseconds. Where the kernel has no PR_SET_PDEATHSIG (anything but Linux) it only starts the command.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives execve(2) of an ordinary binary


def main() -> None:
    """Tie this process to its parent, then replace it by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above: no signal will come
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()

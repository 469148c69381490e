"""Becomes another program that cannot outlive the process that started it.

Run by file name in a bare interpreter: `python -I -S launcher.py PARENT_PID PROGRAM ARGUMENT...`.
A signal at the parent's death is asked for in the child itself, before it becomes the program:
asking in a fork of the (threaded) service would not be safe.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGKILL at the parent's death, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        # It died before the signal was asked for.
        os._exit(1)
    # A group of its own: the terminal's Ctrl-C is for the service, which drains first, and the
    # whole group can be ended at once.
    os.setpgid(0, 0)
    os.execv(program, sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()

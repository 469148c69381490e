"""Puts a process back under the ordinary scheduler after SVT-AV1 has encoded in it."""

import contextlib
import os
from pathlib import Path


def ordinary_scheduling() -> None:
    """Take real-time priority from every thread of this process.

    If permitted, as root, SVT-AV1 sets it on its own threads and on the thread that opens it, and
    leaves it set. Every process started from then on inherits it: on two cores they keep all
    others from running, and Ceph's spinlocks wait forever for a thread that is never scheduled.
    """
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))

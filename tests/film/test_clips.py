"""What the clips that tests are made of leave behind."""

import os
import subprocess
import sys
from pathlib import Path

from tests.film.clips import make_clip

_ASK = "import os; print(os.sched_getscheduler(0) == os.SCHED_OTHER)"


def test_a_clip_in_av1_leaves_no_real_time_priority(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.webm", codec="libsvtav1", frames=4)
    threads = [int(folder.name) for folder in Path("/proc/self/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    child = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True)
    assert child.stdout == "True\n"

"""What a killed service's Triton leaves behind is found and ended by the next one."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from service.inference.local.workspace import Workspace, sweep

ORPHAN = """
import os, shutil, signal, subprocess
from service.inference.local.workspace import Workspace
workspace = Workspace()
stub = shutil.copy("/bin/sleep", workspace.folder / "stub")
print(subprocess.Popen([stub, "3600"]).pid, workspace.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_stub_whose_owner_was_killed_is_ended_by_a_sweep() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        assert owner.wait() == -signal.SIGKILL
    stub = psutil.Process(int(pid))
    assert stub.is_running()

    sweep()

    psutil.wait_procs([stub], timeout=30)
    assert not stub.is_running() or stub.status() == psutil.STATUS_ZOMBIE
    assert not Path(folder).exists()


def test_a_sweep_leaves_the_living_alone() -> None:
    workspace = Workspace()
    try:
        sweep()
        assert workspace.folder.is_dir()
    finally:
        workspace.remove()

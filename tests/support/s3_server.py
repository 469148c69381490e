"""The real S3 server that tests run on: their own, or the one that the environment names."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import psutil

from tests.support.service_process import ROOT, wait_for

STARTER = ROOT / "deploy/s3/ceph.py"
_SPECIFICATION = importlib.util.spec_from_file_location("ceph_starter", STARTER)
assert _SPECIFICATION is not None and _SPECIFICATION.loader is not None
ceph = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(ceph)

# Waits until its parent has ended, in whatever way, and then ends what it left running.
_REAPER = "import subprocess, sys; sys.stdin.read(); subprocess.run(sys.argv[1:])"


class S3Access:
    """Where an S3 server is, and its keys."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str) -> None:
        self.endpoint = endpoint
        """http:// or https://, host and port."""
        self.access_key = access_key
        self.secret_key = secret_key

    @classmethod
    def of_environment(cls) -> Self | None:
        """Return the server that REFILM_TEST_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY name."""
        endpoint = os.environ.get("REFILM_TEST_S3_ENDPOINT")
        if not endpoint:
            return None
        keys = (os.environ[f"REFILM_TEST_S3_{name}_KEY"] for name in ("ACCESS", "SECRET"))
        return cls(endpoint if "://" in endpoint else f"http://{endpoint}", *keys)

    def settings(self, bucket: str, **more: str) -> dict[str, str]:
        """Return the service's environment variables for a bucket there."""
        return {
            "REFILM_S3_ENDPOINT": self.endpoint,
            "REFILM_S3_ACCESS_KEY": self.access_key,
            "REFILM_S3_SECRET_KEY": self.secret_key,
            "REFILM_S3_BUCKET": bucket,
            **more,
        }


class S3Server(S3Access):
    """Ceph's gateway, monitor and disk, started in a folder of their own; see deploy/s3/ceph.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._reaper = subprocess.Popen(
            [sys.executable, "-c", _REAPER, sys.executable, str(STARTER), "stop", str(self.folder)],
            stdin=subprocess.PIPE,
            # Ctrl-C is for pytest; this one ends after it.
            start_new_session=True,
        )
        try:
            self._starter("start")
        except BaseException:
            self.stop()
            raise
        super().__init__(**json.loads((self.folder / "access.json").read_text()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @staticmethod
    def missing() -> list[str]:
        """Return the programs that are not installed."""
        return [program for program in ceph.PROGRAMS if shutil.which(program) is None]

    def kill_gateway(self) -> None:
        """Kill -9 the process that speaks S3; what it depends on keeps running."""
        self._kill(ceph.GATEWAY)

    def kill(self) -> None:
        """Kill -9 everything."""
        self._kill(ceph.GATEWAY, ceph.DISK, ceph.MONITOR)

    def pause(self) -> None:
        """Let the gateway accept connections without answering."""
        self._process(ceph.GATEWAY).suspend()

    def resume(self) -> None:
        """End a pause."""
        self._process(ceph.GATEWAY).resume()

    def limit(self, size: int | None) -> None:
        """Limit the bytes it stores in total; None for no limit."""
        if size is not None:
            self._quota("set", f"--max-size={size}")
        self._quota("disable" if size is None else "enable")
        # It caches the last value for minutes.
        self.kill_gateway()
        self.restart()

    def restart(self) -> None:
        """Start what is not running, on the existing data, and wait until it answers."""
        self._starter("restart")

    def stop(self) -> None:
        """End it, and remove its data."""
        self.kill()
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _quota(self, *arguments: str) -> None:
        configuration = str(self.folder / "ceph.conf")
        subprocess.run(
            [
                *("radosgw-admin", "-c", configuration),
                *("quota", "--quota-scope=user", "--uid=refilm", *arguments),
            ],
            check=True,
            capture_output=True,
        )

    def _starter(self, command: str) -> None:
        done = subprocess.run(
            [sys.executable, str(STARTER), command, str(self.folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"the S3 server does not {command}: {done.stderr}")

    def _process(self, name: str) -> psutil.Process:
        return psutil.Process(ceph.process_of(self.folder, name))

    def _kill(self, *names: str) -> None:
        for name in names:
            process = ceph.process_of(self.folder, name)
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                wait_for(lambda name=name: not ceph.process_of(self.folder, name), f"{name}'s end")

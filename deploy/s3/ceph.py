"""A real local S3 server: Ceph's gateway over one monitor and one disk, which is a file.

    python deploy/s3/ceph.py start DIR [--port PORT]    create it in DIR and start it
    python deploy/s3/ceph.py restart DIR                start its stopped processes
    python deploy/s3/ceph.py stop DIR                   stop it; DIR keeps the objects

`start` and `restart` print its address and keys as one line of JSON, also written to
DIR/access.json. For tests and trials: it keeps a single copy of everything. It needs Debian's
packages, but neither root nor systemd, and listens on 127.0.0.1 only.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

INSTALL = "apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool")

COMMAND_SECONDS = 120
GATEWAY, DISK, MONITOR = "client.rgw.a", "osd.0", "mon.a"

CONFIGURATION = """\
[global]
fsid = {cluster}
mon initial members = a
mon host = [v2:127.0.0.1:{monitor_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}/run
pid file = {folder}/run/$type.$id.pid
admin socket =
log file = {folder}/log/$name.log
crash dir = {folder}/log
auth allow insecure global id reclaim = false
# One copy, on the only disk.
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
# The gateway creates a dozen pools: without this the monitor waits a second with each.
paxos propose interval = 0.05
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
# With the cache, creating a bucket waits half a minute for a gateway that was killed.
rgw cache enabled = false
# Do not stop because other programs fill the file system.
mon data avail warn = 2
mon data avail crit = 1
osd memory target = 1073741824

[mon.a]
mon data = {folder}/monitor

[osd.0]
osd data = {folder}/disk
bluestore block create = true
bluestore block size = {disk_bytes}

[client.rgw.a]
rgw data = {folder}/gateway
rgw frontends = beast endpoint=127.0.0.1:{port}
"""
DISK_BYTES = 32 * 2**30
"""The file is sparse."""


class CephError(Exception):
    """The server cannot be started; the message says why."""


def main() -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(description="A real S3 server on this machine alone.")
    parser.add_argument("command", choices=("start", "restart", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="of S3; 0 takes a free one")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    try:
        if arguments.command == "stop":
            stop(folder)
            return 0
        _check_programs()
        if arguments.command == "start":
            create(folder, arguments.port or _free_port())
        start(folder)
    except CephError as error:
        print(error, file=sys.stderr)
        return 1
    print((folder / "access.json").read_text(), end="")
    return 0


def create(folder: Path, port: int) -> None:
    """Create an empty cluster in `folder`, with its monitor and disk running."""
    if (folder / "ceph.conf").exists():
        raise CephError(f"there already is a server in {folder}: use restart")
    for name in ("run", "log", "monitor", "disk", "gateway"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cluster, monitor_port = str(uuid.uuid4()), _free_port()
    (folder / "ceph.conf").write_text(
        CONFIGURATION.format(
            folder=folder,
            cluster=cluster,
            monitor_port=monitor_port,
            port=port,
            disk_bytes=DISK_BYTES,
        )
    )
    keyring = str(folder / "keyring")
    for name, *rights in (
        ("mon.", "mon", "allow *"),
        ("client.admin", "mon", "allow *", "osd", "allow *"),
        (GATEWAY, "mon", "allow rwx", "osd", "allow rwx"),
    ):
        caps = [
            part
            for who, what in zip(rights[::2], rights[1::2], strict=True)
            for part in ("--cap", who, what)
        ]
        exists = [] if name != "mon." else ["--create-keyring"]
        _run("ceph-authtool", *exists, keyring, "--gen-key", "-n", name, *caps)
    members = str(folder / "members")
    _run(
        "monmaptool",
        "--create",
        "--fsid",
        cluster,
        "--addv",
        "a",
        f"[v2:127.0.0.1:{monitor_port}]",
        members,
    )
    _run_in(folder, "ceph-mon", "-i", "a", "--mkfs", "--monmap", members)
    _run_in(folder, "ceph-mon", "-i", "a")

    disk, key = str(uuid.uuid4()), _run("ceph-authtool", "--gen-print-key").strip()
    _run_in(folder, "ceph", "osd", "new", disk, "-i", "-", text=json.dumps({"cephx_secret": key}))
    disk_keyring = str(folder / "disk" / "keyring")
    _run("ceph-authtool", "--create-keyring", disk_keyring, "-n", DISK, "--add-key", key)
    _run_in(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk, "--keyring", disk_keyring)
    _start_disk(folder)

    access = {
        "endpoint": f"http://127.0.0.1:{port}",
        "access_key": "refilm",
        "secret_key": secrets.token_urlsafe(24),
    }
    _run_in(
        folder,
        "radosgw-admin",
        "user",
        "create",
        "--uid=refilm",
        "--display-name=refilm",
        f"--access-key={access['access_key']}",
        f"--secret-key={access['secret_key']}",
    )
    # Written last: it marks a server that can be started.
    (folder / "access.json").write_text(json.dumps(access) + "\n")


def start(folder: Path) -> None:
    """Start the stopped processes of the server in `folder`, and wait until it answers."""
    if not (folder / "access.json").exists():
        raise CephError(f"there is no server in {folder}: use start")
    if process_of(folder, MONITOR) is None:
        _run_in(folder, "ceph-mon", "-i", "a")
    if process_of(folder, DISK) is None:
        _start_disk(folder)
    if process_of(folder, GATEWAY) is None:
        _run_in(folder, "radosgw", "-n", GATEWAY)
    endpoint = json.loads((folder / "access.json").read_text())["endpoint"]
    _wait(lambda: _answers(endpoint), "the gateway answers")


def stop(folder: Path) -> None:
    """Stop the server: first the gateway, then its dependencies."""
    for name in (GATEWAY, DISK, MONITOR):
        process = process_of(folder, name)
        if process is None:
            continue
        os.kill(process, signal.SIGTERM)
        try:
            _wait(lambda name=name: process_of(folder, name) is None, f"{name} ends", seconds=15)
        except CephError:
            os.kill(process, signal.SIGKILL)


def process_of(folder: Path, name: str) -> int | None:
    """Return the pid of a part of the server in `folder`, or None if it is not running."""
    try:
        process = int((folder / "run" / f"{name}.pid").read_text())
        command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # Process ids are reused, so the folder must match as well.
    return process if os.fsencode(folder / "ceph.conf") in command else None


def _start_disk(folder: Path) -> None:
    _run_in(folder, "ceph-osd", "-i", "0", "--keyring", str(folder / "disk" / "keyring"))
    _wait(
        lambda: " 1 up" in _run_in(folder, "ceph", "osd", "stat"),
        "the disk is up",
    )


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()  # noqa: S310 - our own address
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _wait(ready: Callable[[], bool], what: str, seconds: float = COMMAND_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise CephError(f"timed out after {seconds:.0f} s: waiting until {what}")
        time.sleep(0.1)


def _run_in(folder: Path, program: str, *arguments: str, text: str | None = None) -> str:
    return _run(program, "-c", str(folder / "ceph.conf"), *arguments, text=text)


def _run(program: str, *arguments: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            [program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise CephError(f"{program} timed out") from None
    except subprocess.CalledProcessError as error:
        raise CephError(f"{program} {arguments[-1]}: {error.stderr.strip()}") from None
    return done.stdout


def _check_programs() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise CephError(f"{', '.join(missing)} not found; install with: {INSTALL}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())

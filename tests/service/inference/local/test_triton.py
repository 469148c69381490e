"""The local Triton serves the service and its user, and nobody else on the machine."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as grpc_triton
from tritonclient.utils import InferenceServerException

from service.inference.local.workspace import SHARED_MEMORY
from tests.support.service_process import ServiceProcess, wait_for

pytestmark = pytest.mark.process

NOBODY = 65534
SECRET = "a-secret-of-the-service"

ATTACK = """
import json, os, sys
import tritonclient.grpc as triton

address, uid, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# What is needed is imported: the interpreter may lie where the other user cannot read.
if uid != os.getuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
client = triton.InferenceServerClient(address)
model = f"model_of_{uid}"
config = {
    "name": model, "backend": "python",
    "output": [{"name": "OUTPUT__0", "data_type": "TYPE_FP32", "dims": [1]}],
}
code = (
    f"open({marker!r}, 'w').close()\\n"
    "class TritonPythonModel:\\n"
    "    def execute(self, requests): return []\\n"
)
files = {"file:1/model.py": code.encode()}
attempts = {
    "connect": lambda: client.is_server_live(client_timeout=5),
    "list": lambda: [m.name for m in client.get_model_repository_index(client_timeout=5).models],
    "load": lambda: client.load_model(model, config=json.dumps(config), files=files,
                                      client_timeout=30),
    "unload": lambda: client.unload_model("pca_encoder", client_timeout=30),
}
outcome = {}
for name, attempt in attempts.items():
    try:
        attempt()
        outcome[name] = "done"
    except triton.InferenceServerException as error:
        outcome[name] = error.status()
print(json.dumps(outcome))
"""
EVERY_ATTEMPT = ("connect", "list", "load", "unload")


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, model_repository: Path
) -> Iterator[ServiceProcess]:
    """A service with secrets in its environment; its store is away, which is not asked for."""
    secrets = {
        "REFILM_S3_ENDPOINT": "http://127.0.0.1:9",
        "REFILM_S3_ACCESS_KEY": SECRET,
        "REFILM_S3_SECRET_KEY": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    folder = tmp_path_factory.mktemp("guarded")
    with ServiceProcess(folder, [model_repository], secrets) as process:
        process.wait_until_serving()
        yield process


def attack(address: str, uid: int, marker: Path) -> dict[str, str]:
    """Try everything as `uid`; what came of each attempt: "done" or the error's status."""
    done = subprocess.run(
        [sys.executable, "-c", ATTACK, address, str(uid), str(marker)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    outcome: dict[str, str] = json.loads(done.stdout)
    return outcome


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_cannot_use_it(guarded: ServiceProcess, tmp_path: Path) -> None:
    outcome = attack(guarded.triton_address, NOBODY, tmp_path / "theirs")
    assert outcome == dict.fromkeys(EVERY_ATTEMPT, "StatusCode.UNAVAILABLE")
    assert not (tmp_path / "theirs").exists()


def test_its_own_user_can(guarded: ServiceProcess, tmp_path: Path) -> None:
    outcome = attack(guarded.triton_address, os.getuid(), tmp_path / "ours")
    assert outcome == dict.fromkeys(EVERY_ATTEMPT, "done")
    assert (tmp_path / "ours").exists()


def test_it_listens_on_no_network(guarded: ServiceProcess) -> None:
    for process in guarded.children():
        listening = process.net_connections(kind="inet")
        assert [c.laddr for c in listening if c.status == psutil.CONN_LISTEN] == [], process


def test_neither_it_nor_its_stubs_are_given_the_secrets(guarded: ServiceProcess) -> None:
    own = psutil.Process(guarded.process.pid).environ()
    assert own["REFILM_S3_SECRET_KEY"] == SECRET
    children = guarded.children()
    assert len(children) >= 3, "Triton, and a stub for each half of the model"
    for process in children:
        environment = process.environ()
        assert SECRET not in environment.values(), process
        assert not [name for name in environment if name.startswith("REFILM_")], process


def test_its_shared_memory_is_its_own_users_alone(guarded: ServiceProcess) -> None:
    (option,) = [part for part in guarded.triton().cmdline() if "shm-region-prefix-name" in part]
    prefix = option.rpartition("=")[2]
    regions = list(SHARED_MEMORY.glob(prefix + "*"))
    assert len(regions) >= 2, "one for each half of the model"
    modes = {region.name: oct(stat.S_IMODE(region.stat().st_mode)) for region in regions}
    assert modes == dict.fromkeys(modes, oct(0o600))


def test_a_model_unloaded_behind_the_services_back_is_loaded_again(
    guarded: ServiceProcess,
) -> None:
    client = grpc_triton.InferenceServerClient(guarded.triton_address)
    try:
        for half in ("pca_encoder", "pca_decoder"):
            client.unload_model(half, client_timeout=30)
            wait_for(returned(client, half), f"{half} to be loaded again")
    finally:
        client.close()


def returned(client: grpc_triton.InferenceServerClient, model: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return client.is_model_ready(model, "1") and client.is_model_ready(model, "2")
        except InferenceServerException:
            return False

    return ready

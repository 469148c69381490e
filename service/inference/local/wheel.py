"""The Triton in the wheel `nvidia-pytriton`: its paths, command line and environment."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WHEEL = "nvidia-pytriton==0.7.0"
_BACKEND = Path(__file__).parents[3] / "deploy/triton/backends/pytorch/model.py"
_LAUNCHER = Path(__file__).with_name("launcher.py")
_BACKENDS = "backends"
_SOCKET = "t.sock"
_PORT = 8001
"""Triton appends a port to its address: for a Unix socket it becomes part of the file's name."""
_LONGEST_SOCKET_PATH = 107
"""Linux allows 108 bytes, including a terminating zero."""
_PASSED_ON = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "TMPDIR",
)
"""Environment variables passed to Triton and its models."""


class LocalTritonError(Exception):
    """The local Triton cannot be started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Paths in the wheel."""

    triton: Path
    libraries: Path


def find_wheel() -> Wheel:
    """Return the wheel's paths; raises LocalTritonError if it is not installed."""
    spec = importlib.util.find_spec("pytriton")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        wheel = Wheel(Path(place) / "tritonserver", Path(place).parent / "nvidia_pytriton.libs")
        if (wheel.triton / "bin/tritonserver").exists() and wheel.libraries.exists():
            return wheel
    raise LocalTritonError(
        "no Triton Inference Server: REFILM_TRITON_ADDRESS is not set, and the wheel with a local "
        f"one is not installed. Install it with `pip install --no-deps {WHEEL}` (x86-64 "
        "Linux), or set REFILM_TRITON_ADDRESS to a server's gRPC address"
    )


def assemble_backends(wheel: Wheel, folder: Path) -> Path:
    """Assemble the Python backend, its stub and the "pytorch" backend below `folder`."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel.triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise LocalTritonError(f"the wheel {WHEEL} has no stub for Python {version}; use 3.11")
    if not _BACKEND.exists():
        raise LocalTritonError(
            f"{_BACKEND} is missing; a local Triton needs the service to run from a checkout"
        )
    backends = folder / _BACKENDS
    shutil.copytree(wheel.triton / "backends/python", backends / "python")
    shutil.copy2(stub, backends / "python")
    (backends / "pytorch").mkdir()
    shutil.copy2(_BACKEND, backends / "pytorch")
    return backends


def address(folder: Path) -> str:
    """Return the gRPC address of a Triton that listens in `folder`.

    Raises LocalTritonError if the folder's path is too long for a Unix socket.
    """
    socket = folder / f"{_SOCKET}:{_PORT}"
    excess = len(os.fsencode(socket)) - _LONGEST_SOCKET_PATH
    if excess > 0:
        raise LocalTritonError(
            f"the path {socket} of the local Triton's socket is {excess} bytes too long; set "
            "TMPDIR to a folder with a shorter path"
        )
    return f"unix:{socket}"


def command(
    wheel: Wheel, folder: Path, repositories: Sequence[Path], shared_memory_prefix: str
) -> list[str]:
    """Return the command of a Triton that is killed when the calling process dies.

    It listens in `folder`, with the backends of `assemble_backends`: whoever has access to that
    folder can run any code. Raises LocalTritonError if its path is too long for a socket.
    """
    return [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(os.getpid()),
        str(wheel.triton / "bin/tritonserver"),
        *(f"--model-repository={path.resolve()}" for path in repositories),
        f"--backend-directory={folder / _BACKENDS}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
        # The service loads models itself; auto-completing configurations takes 10 s per model.
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-http=false",
        "--allow-metrics=false",
        f"--grpc-address={address(folder).removesuffix(f':{_PORT}')}",
        f"--grpc-port={_PORT}",
        "--log-info=false",
    ]


def environment(wheel: Wheel) -> dict[str, str]:
    """Return the environment for Triton and its stubs: paths of Python and libraries.

    Leaves out the rest of the service's environment: a model is code and must not read its secrets.
    """
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(wheel.libraries)]
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": ":".join(libraries),
    }

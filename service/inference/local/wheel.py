"""The Triton that the wheel `nvidia-pytriton` carries: where it lies and how it is started."""

import importlib.util
import os
import shutil
import socket
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WHEEL = "nvidia-pytriton==0.7.0"
_BACKEND = Path(__file__).parents[3] / "deploy/triton/backends/pytorch/model.py"
_LAUNCHER = Path(__file__).with_name("launcher.py")


class LocalTritonError(Exception):
    """The local Triton cannot be started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """The parts of the wheel that are used."""

    triton: Path
    libraries: Path


def find_wheel() -> Wheel:
    """Return where the wheel's Triton lies; raises LocalTritonError where it is not installed."""
    spec = importlib.util.find_spec("pytriton")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        wheel = Wheel(Path(place) / "tritonserver", Path(place).parent / "nvidia_pytriton.libs")
        if (wheel.triton / "bin/tritonserver").exists() and wheel.libraries.exists():
            return wheel
    raise LocalTritonError(
        "no Triton Inference Server: REFILM_TRITON_ADDRESS is not set, and the wheel that carries "
        f"a local one is not installed. Install it with `pip install --no-deps {WHEEL}` (x86-64 "
        "Linux), or set REFILM_TRITON_ADDRESS to a server's gRPC address"
    )


def assemble_backends(wheel: Wheel, folder: Path) -> Path:
    """Put the Python backend, its stub and the stand-in for libtorch together below `folder`."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel.triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise LocalTritonError(f"the wheel {WHEEL} carries no stub for Python {version}; use 3.11")
    if not _BACKEND.exists():
        raise LocalTritonError(
            f"{_BACKEND} is missing; the service with a local Triton runs from a checkout"
        )
    backends = folder / "backends"
    shutil.copytree(wheel.triton / "backends/python", backends / "python")
    shutil.copy2(stub, backends / "python")
    (backends / "pytorch").mkdir()
    shutil.copy2(_BACKEND, backends / "pytorch")
    return backends


def command(
    wheel: Wheel,
    backends: Path,
    repositories: Sequence[Path],
    port: int,
    shared_memory_prefix: str,
) -> list[str]:
    """Return the command that becomes a Triton which ends with the calling process."""
    return [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(os.getpid()),
        str(wheel.triton / "bin/tritonserver"),
        *(f"--model-repository={path.resolve()}" for path in repositories),
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
        # The service loads models itself; completing configurations would cost 10 s a model.
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-http=false",
        "--allow-metrics=false",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--log-info=false",
    ]


def environment(wheel: Wheel) -> dict[str, str]:
    """Return the environment in which Triton and its stubs find Python and their libraries."""
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(wheel.libraries)]
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(libraries),
    }


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

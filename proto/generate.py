"""Generate the client's stubs from the contract: `python proto/generate.py [OUT]`.

Writes refilm/v1/*_pb2.py, *_pb2_grpc.py and their type stubs below OUT (default: client/).
"""

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).parent
ROOT = PROTO.parent


def generate(out: Path) -> None:
    """Write the stubs of every proto file into `out`; raises RuntimeError if protoc fails."""
    binaries = Path(sys.executable).parent
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={PROTO}",
        f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *(str(file) for file in sorted(PROTO.glob("refilm/v1/*.proto"))),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed; its messages are above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "client")

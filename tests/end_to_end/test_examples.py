"""The examples do what they say, against the real service."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.support.service_process import ServiceProcess

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=120
    )


def run_python(script: str, *arguments: str | Path) -> str:
    done = run(sys.executable, EXAMPLES / script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    across = np.linspace(0, 255, 320, dtype=np.uint8)
    pixels = np.stack([np.tile(across, (180, 1))] * 3, axis=-1)
    pixels[..., 2] = 64
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a moving gradient."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for index in range(48):
            row = (np.arange(320) + 4 * index) % 256
            pixels = np.tile(row.astype(np.uint8)[None, :, None], (180, 1, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def frames_and_size(path: Path) -> tuple[int, int, int]:
    with av.open(path, "r") as container:
        pictures = list(container.decode(video=0))
    return len(pictures), pictures[0].width, pictures[0].height


def test_python_frame(service: ServiceProcess, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    assert run_python("python/frame.py", picture, out, service.address).startswith("pca v2: [")
    pixels = np.asarray(Image.open(out))
    assert pixels.shape == (144, 256, 3)
    # The gradient is still there.
    assert int(pixels[72, 230, 0]) - int(pixels[72, 20, 0]) > 50


def test_python_film(service: ServiceProcess, film: Path, tmp_path: Path) -> None:
    out, latents = tmp_path / "out.mp4", tmp_path / "latents.npz"
    shown = run_python("python/film.py", film, out, latents, service.address)
    assert "48 frames of 48" in shown
    assert shown.splitlines()[-1] == f"{out}: 48 frames, 2.0 s, pca"
    assert frames_and_size(out)[0] == 48
    saved = np.load(latents)
    assert saved["latents"].shape == (48, 200)
    assert len(saved["pts"]) == 48


def test_python_many_frames(service: ServiceProcess, picture: Path) -> None:
    shown = run_python("python/many_frames.py", service.address, *[picture] * 5)
    assert [line.split(": [")[0] for line in shown.splitlines()] == [str(picture)] * 5


def test_a_generic_client_encodes_by_reflection_alone(
    service: ServiceProcess, picture: Path
) -> None:
    answer = json.loads(run_python("reflection/encode.py", picture, service.address))
    assert len(answer["latent"]["floats"]["values"]) == 200
    assert answer["model"]["name"] == "models/pca/versions/2"


def test_buf_curl_encodes_as_the_readme_says(service: ServiceProcess, picture: Path) -> None:
    if not (ROOT / "node_modules" / ".bin" / "buf").exists() or not shutil.which("npx"):
        pytest.skip("buf is not installed: npm ci at the root installs it")
    block = re.search(r"```bash\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    assert block is not None
    command = block[1].replace("HOST:PORT", service.address).replace("PICTURE", str(picture))
    done = run("bash", "-o", "pipefail", "-c", command)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["latent"]["floats"]["values"]) == 200


def run_node(film: Path, out: Path, address: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("node"):
        pytest.skip("Node is not installed")
    if not (EXAMPLES / "node" / "node_modules").exists():
        pytest.skip("the Node example is not installed: npm ci --prefix examples/node")
    return run("node", EXAMPLES / "node" / "reconstruct.mjs", film, out, address)


def test_node_streams_a_reconstruction(service: ServiceProcess, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = run_node(film, out, service.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mp4, h264, 320 x 180\n")
    assert done.stdout.endswith(f"{out}: 48 frames by models/pca/versions/2\n")
    assert frames_and_size(out) == (48, 256, 144)


def test_node_says_what_is_wrong_and_leaves_nothing(
    service: ServiceProcess, film: Path, tmp_path: Path
) -> None:
    film_bytes = film.read_bytes()
    cut = tmp_path / "cut.mp4"
    # Cut inside the pictures; what announced their size stays.
    cut.write_bytes(film_bytes[: len(film_bytes) // 2])
    done = run_node(cut, tmp_path / "out.mp4", service.address)
    assert done.returncode == 1
    assert re.fullmatch(r"reconstruct: .*\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]

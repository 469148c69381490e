"""Stubs for Go and TypeScript come out of the contract as buf.gen.yaml says, and can be used."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
BINARIES = ROOT / "node_modules" / ".bin"

USE = """
import { create } from "@bufbuild/protobuf";
import { ModelSelectorSchema } from "./refilm/v1/autoencoder_pb.js";
import { LatentsService } from "./refilm/v1/latents_pb.js";
import { WatchReconstructionRequestSchema } from "./refilm/v1/library_pb.js";

const request = create(WatchReconstructionRequestSchema, {
  target: {
    case: "rendition",
    value: { film: "films/bunny", model: create(ModelSelectorSchema, { name: "models/pca" }) },
  },
});
export const film: string | undefined =
  request.target.case === "rendition" ? request.target.value.film : undefined;
export const method: string = LatentsService.method.searchFrames.name;
"""


def generate(language: str, out: Path) -> None:
    """Generate one language's stubs below `out`; skips where its tools are not there."""
    if not (BINARIES / "buf").exists():
        pytest.skip("buf is not installed: npm install at the root installs it")
    template = YAML(typ="safe").load((ROOT / "buf.gen.yaml").read_text())
    template["plugins"] = [one for one in template["plugins"] if one["out"] == language]
    assert template["plugins"], f"buf.gen.yaml makes nothing for {language}"
    for plugin in template["plugins"]:
        if not (shutil.which(plugin["local"]) or (BINARIES / plugin["local"]).exists()):
            pytest.skip(f"{plugin['local']} is not installed")
    command = ["npx", "--no-install", "buf", "generate", "--template", json.dumps(template)]
    subprocess.run([*command, "-o", out], cwd=ROOT, check=True)


def test_go_stubs(tmp_path: Path) -> None:
    generate("go", tmp_path)

    made = {path.name for path in (tmp_path / "go/refilm/v1").iterdir()}
    files = ("autoencoder", "latents", "library")
    assert made == {f"{name}{kind}.pb.go" for name in files for kind in ("", "_grpc")}
    library = (tmp_path / "go/refilm/v1/library.pb.go").read_text()
    assert "package refilmv1" in library
    # What has no value is told from what is 0.
    latents = (tmp_path / "go/refilm/v1/latents.pb.go").read_text()
    assert latents.count("MinSimilarity *float32") == 2


def test_typescript_stubs_pass_the_type_checker(tmp_path: Path) -> None:
    generate("ts", tmp_path)
    (tmp_path / "ts/use.ts").write_text(USE)
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")

    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"]
    checked = subprocess.run(
        [BINARIES / "tsc", *options, tmp_path / "ts/use.ts"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout

"""The lock in requirements/: it holds what pyproject.toml asks for, each file by its hash."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
APART = {"torch", "refilm"}
"""torch is installed by a command of its own, and the client is ours."""


def locked(lock: str) -> dict[str, str]:
    """Return the version of each package of a lock."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def asked(file: str, extra: str = "") -> list[Requirement]:
    """Return what a pyproject.toml asks for, or what an extra of it does."""
    project = tomllib.loads((ROOT / file).read_text())["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(
    ("lock", "file", "extra"),
    [
        ("service", "pyproject.toml", ""),
        ("service", "pyproject.toml", "service"),
        ("service", "client/pyproject.toml", ""),
        ("service", "client/pyproject.toml", "cli"),
        ("trainer", "pyproject.toml", ""),
        ("trainer", "pyproject.toml", "trainer"),
        ("dev", "pyproject.toml", "dev"),
    ],
)
def test_a_lock_holds_what_is_asked_for(lock: str, file: str, extra: str) -> None:
    versions = locked(lock)
    for requirement in asked(file, extra):
        name = canonicalize_name(requirement.name)
        if name not in APART:
            assert name in versions, f"{name} is not locked: make lock"
            assert requirement.specifier.contains(versions[name]), f"{requirement}: make lock"


def test_no_version_differs_between_two_locks() -> None:
    versions: dict[str, str] = {}
    for lock in LOCKS:
        for name, version in locked(lock.stem).items():
            assert versions.setdefault(name, version) == version, name


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_version_has_a_hash_and_no_place_of_a_machine(lock: Path) -> None:
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    entries = [line for line in text.replace("\\\n", "").splitlines() if line]
    assert entries
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( +--hash=sha256:[0-9a-f]{64})+ *", entry), entry
    assert "file:" not in lock.read_text() and "index-url" not in lock.read_text()


def test_all_that_torch_needs_besides_cuda_is_locked() -> None:
    (metadata,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"][
        "dependency-metadata"
    ]
    told = {str(Requirement(line)) for line in metadata["requires-dist"]}
    needed = {
        str(Requirement(line))
        for line in importlib.metadata.requires("torch") or []
        if "extra ==" not in line and not re.match(r"nvidia-|cuda-|triton\b", line)
    }
    assert told == needed
    assert {canonicalize_name(Requirement(line).name) for line in told} <= set(locked("trainer"))

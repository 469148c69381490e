"""What contributors are told, and what runs for them, is true: paths, commands, configurations."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from pre_commit.clientlib import load_config
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
WORKFLOW = ROOT / ".github/workflows/ci.yml"


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def targets_of(command: str) -> list[str]:
    """Return the targets of a `make` command."""
    words = shlex.split(command)
    assert words[0] == "make"
    return [word for word in words[1:] if "=" not in word and not word.startswith("-")]


def test_contributing_names_paths_that_are_there() -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]*)+)`|\]\(([^)#:]+)\)", CONTRIBUTING)
    paths = {one or other for one, other in named if "NAME" not in one + other}
    assert len(paths) > 30
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_contributing_names_commands_that_are_there() -> None:
    for command in re.findall(r"`(make [^`]+)`|^(make .*?)(?:\s+#.*)?$", CONTRIBUTING, re.M):
        for target in targets_of(command[0] or command[1]):
            assert target in TARGETS, target


@pytest.mark.parametrize("name", ["README.md", "client/README.md", "docs/operations.md"])
def test_other_pages_name_targets_that_are_there(name: str) -> None:
    for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", (ROOT / name).read_text(), re.M):
        assert (target[0] or target[1]) in TARGETS


def test_the_symbols_that_contributing_names_are_there() -> None:
    for path, symbol in (
        ("trainer/recipes/__init__.py", "RECIPES"),
        ("film/read/probe.py", "CONTAINERS"),
        ("tests/support/object_stores.py", "object_store"),
        ("tests/support/object_stores.py", "library_store"),
        ("tests/support/service_process.py", "wait_for"),
    ):
        assert f"`{symbol}`" in CONTRIBUTING
        assert symbol in (ROOT / path).read_text()


def test_the_changelog_is_in_the_form_that_it_names() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    for line in releases[1:]:
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\]( - \d{4}-\d\d-\d\d)?", line), line
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_workflow_meets_its_schema_and_runs_what_a_push_must_pass() -> None:
    arguments = ["--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = CliRunner().invoke(check_jsonschema, arguments)
    assert done.exit_code == 0, done.output
    (job,) = yaml(WORKFLOW)["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_what_a_push_must_pass_holds_all_that_the_three_commands_do() -> None:
    commands = re.findall(r"^make .*$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert [targets_of(command) for command in commands] == [["lint", "test"]]
    rules = dict(re.findall(r"^([a-z-]+):([^#\n]*)(?:##.*)?\n", MAKEFILE, re.MULTILINE))
    assert rules["check"].split() == rules["lint"].split() == ["static"]


def test_pre_commit_takes_the_tools_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    configuration = load_config(".pre-commit-config.yaml")
    hooks = [hook for repository in configuration["repos"] for hook in repository["hooks"]]
    locked = (ROOT / "requirements/dev.txt").read_text()
    for hook in hooks:
        program = shlex.split(hook["entry"])[0]
        assert hook["language"] in ("system", "unsupported")  # Its older and newer name.
        assert program == "npx" or os.access(ROOT / program, os.X_OK), program
    for tool in ("ruff", "mypy", "import-linter", "pre-commit"):
        assert f"\n{tool}==" in locked


def test_the_devcontainer_sets_up_by_targets_that_are_there() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    setup, *_ = container["postCreateCommand"].split(" && ")
    assert set(targets_of(setup)) <= TARGETS
    for package in re.findall(r"radosgw|ceph-\w+|chromium", (ROOT / ".ci/run").read_text()):
        assert package in container["onCreateCommand"]
    assert ":3.11-" in container["image"]

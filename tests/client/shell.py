"""The command `refilm` in a test: in this process, or at a terminal."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from refilm.cli import main


class Shell:
    """Runs commands in this process and in a folder of their own."""

    def __init__(self, folder: Path, address: str, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.address = address
        self._capture = capture

    def __call__(self, *arguments: str | Path, code: int = 0) -> tuple[str, str]:
        """Run a command; return what it wrote to standard output and error."""
        command, *rest = map(str, arguments)
        # The second word of `reconstructions` is a command as well.
        words = [command, rest.pop(0)] if command == "reconstructions" else [command]
        assert main([*words, "--address", self.address, *rest]) == code, self._capture.readouterr()
        written = self._capture.readouterr()
        return written.out, written.err

    def json(self, *arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
        """Run a command with --json; return the objects it wrote, a line each."""
        return [json.loads(line) for line in self(*arguments, "--json", code=code)[0].splitlines()]


def kinds(facts: dict[str, Any]) -> dict[str, str]:
    """Return the types of an object's fields: its schema."""
    return {name: type(value).__name__ for name, value in facts.items()}


def in_terminal(command: list[str], address: str, typed: bytes = b"") -> tuple[int, str]:
    """Run a command at a terminal; return its exit code and what it showed."""
    terminal, other_end = pty.openpty()
    environment = os.environ | {"REFILM_ADDRESS": address, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(
        command, env=environment, stdin=other_end, stdout=other_end, stderr=other_end
    )
    os.close(other_end)
    os.write(terminal, typed)
    shown = b""
    try:
        while data := os.read(terminal, 4096):
            shown += data
    except OSError:
        pass  # How a terminal says that nobody is left on its other end.
    os.close(terminal)
    return process.wait(30), shown.decode()

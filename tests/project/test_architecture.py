"""What docs/architecture.md says of the code is there: the walks' names, and the paths."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
MOST_HOPS = 20


def walks() -> dict[str, list[str]]:
    """Return each walk's hops, by what walks."""
    section = ARCHITECTURE.split("## Three walks", 1)[1].split("\n## ", 1)[0]
    _, *parts = re.split(r"^\*\*(.+?)\*\*.*$", section, flags=re.MULTILINE)
    return {
        name: re.findall(r"^\d+\. `([\w.]+)`", hops, re.MULTILINE)
        for name, hops in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.process  # What is imported may ask the machine what it is.
@pytest.mark.parametrize("name", walks())
def test_a_walk_is_short_and_names_what_is_there(name: str) -> None:
    hops = walks()[name]
    assert 10 <= len(hops) <= MOST_HOPS
    for hop in hops:
        found(hop)


def found(dotted: str) -> object:
    """Return what a dotted name means; fails where there is no such thing."""
    names = dotted.split(".")
    modules = len(names)
    while True:
        try:
            thing: object = importlib.import_module(".".join(names[:modules]))
        except ModuleNotFoundError:
            modules -= 1
            assert modules, dotted
        else:
            break
    for name in names[modules:]:
        thing = getattr(thing, name)
    return thing


def test_three_calls_are_walked_through() -> None:
    assert len(walks()) == 3


def test_its_paths_are_there() -> None:
    paths = re.findall(r"`((?:film|service|trainer|proto|docs|client)/[\w./]*)`", ARCHITECTURE)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []

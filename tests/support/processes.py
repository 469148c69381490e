"""Marks tests that start a process or listen on a socket with `process`; others are unit tests.

Everything in `tests/end_to_end` is marked, and every test that names something that starts a
process or listens: it, a fixture that it takes, or a helper in `tests` that one of them uses. If
another test does so, unseen in the code that it tests, it fails: mark it by hand.
"""

import multiprocessing
import multiprocessing.process
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import grpc
import pytest

_MODULES = (subprocess, multiprocessing)
_NAMES = frozenset(
    ("Spawner", "add_insecure_port", "create_server", "start_server", "ThreadingHTTPServer")
)
"""What starts processes or listens: all of some modules, and these functions and classes."""

_EVENTS = {
    "subprocess.Popen": "starts a process",
    "os.fork": "forks",
    "os.forkpty": "forks",
    "os.posix_spawn": "starts a process",
    "os.exec": "becomes another program",
    "os.system": "starts a process",
    "socket.bind": "listens on a socket",
}
"""The audit events that Python raises for it, by name."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start something, before `-m` selects tests."""
    known: dict[object, bool] = {}
    for item in items:
        if "end_to_end" in item.path.parts or (
            isinstance(item, pytest.Function)
            and any(_starts(function, known) for function in _functions(item))
        ):
            item.add_marker(pytest.mark.process)


def _functions(item: pytest.Function) -> Iterator[object]:
    """Yield a test's function, and those of the fixtures that it takes."""
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        for definition in definitions:
            yield definition.func


def _starts(what: object, known: dict[object, bool]) -> bool:
    """Return whether a function, or a class's methods, start something, directly or not."""
    if isinstance(what, type):
        return any(_starts(method, known) for method in vars(what).values())
    what = getattr(what, "__wrapped__", what)  # As set by hypothesis and contextlib.
    if not isinstance(what, FunctionType):
        return False
    if what not in known:
        known[what] = False  # For functions that call each other.
        known[what] = any(
            name in _NAMES or _is_starting(what.__globals__.get(name), known)
            for name in _names(what.__code__)
        )
    return known[what]


def _is_starting(value: object, known: dict[object, bool]) -> bool:
    if any(value is module for module in _MODULES):
        return True
    return str(getattr(value, "__module__", "")).startswith("tests.") and _starts(value, known)


def _names(code: CodeType) -> Iterator[str]:
    """Yield every name that is used in a function, and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


class _Guard:
    """Whether a unit test is running; then nothing may be started."""

    def __init__(self) -> None:
        self.up = False

    def audit(self, event: str, _: tuple[Any, ...]) -> None:
        """See what Python is about to do; for use as an audit hook."""
        if self.up and event in _EVENTS:
            self.refuse(_EVENTS[event])

    def refuse(self, what: str) -> None:
        """Fail the test, by an exception that no `except Exception` catches."""
        self.up = False
        pytest.fail(f"a unit test {what}: mark it with pytest.mark.process")

    def refusing(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        """Return a function that unit tests may not call."""

        def refusing(*args: object, **kwargs: object) -> object:
            if self.up:
                self.refuse(what)
            return function(*args, **kwargs)

        return refusing


_guard = _Guard()


def pytest_configure() -> None:
    """Watch whatever is started, also where there is no audit event."""
    sys.addaudithook(_guard.audit)
    process = multiprocessing.process.BaseProcess
    process.start = _guard.refusing(process.start, "starts a process")  # type: ignore[method-assign]
    grpc.server = _guard.refusing(grpc.server, "listens on a socket")
    grpc.aio.server = _guard.refusing(grpc.aio.server, "listens on a socket")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Guard a unit test's fixtures."""
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Guard a unit test."""
    return (yield from _guarded(item))


def _guarded(item: pytest.Item) -> Iterator[None]:
    _guard.up = item.get_closest_marker("process") is None
    try:
        return (yield)
    finally:
        _guard.up = False

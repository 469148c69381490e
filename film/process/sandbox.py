"""Sandboxes a process: it may only compute and use the descriptors passed to it.

Applied in a child before it touches anything hostile, while it has one thread. What this kernel or
the system's libraries do not support is left out and reported: see `Protection`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import termios
from collections.abc import Collection
from dataclasses import dataclass

import landlock.plumbing

try:
    import pyseccomp as seccomp
except (ImportError, OSError, RuntimeError):  # libseccomp is a system library.
    seccomp = None

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38

_LANDLOCK_FILES_ABI = 3
"""The first version that covers truncation."""
_LANDLOCK_NETWORK_ABI = 4
_LANDLOCK_SCOPE_ABI = 6
_LANDLOCK_ALL_NETWORK = 0b11
_LANDLOCK_ALL_SCOPES = 0b11
"""Abstract Unix sockets and signals cannot leave the sandbox."""

_AT_EMPTY_PATH = 0x1000
_CLONE_THREAD = 0x00010000

_ALLOWED = (
    # Bytes through open descriptors.
    *("read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "close"),
    *("recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "fstat"),
    *("getsockname", "getsockopt"),
    *("poll", "ppoll", "select", "pselect6"),
    # Memory.
    *("brk", "munmap", "mremap", "madvise", "membarrier"),
    # Threads of its own.
    *("futex", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "arch_prctl"),
    *("sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "getcpu"),
    *("exit", "exit_group", "gettid", "getpid", "getppid"),
    # Signals to itself, and time.
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("getrandom", "getrusage", "times", "uname", "sysinfo"),
    *("getuid", "geteuid", "getgid", "getegid"),
)
"""System calls that a codec, numpy and Python need; everything else is refused."""

_MISSING = (
    *("clone3", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue", "mseal"),
    *("set_mempolicy_home_node", "process_madvise", "map_shadow_stack", "cachestat"),
)
"""Answered as if the kernel lacked them, so that the C library falls back to allowed ones."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Resource limits of a confined process."""

    memory_bytes: int
    """Private writable memory."""
    cpu_seconds: int
    """Processor time of all its threads together, after which it is killed."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What confines a child on this machine."""

    seccomp: bool
    """System calls are filtered: no files, sockets, processes, signals."""
    landlock: int
    """Landlock's version in this kernel, 0 if it has none: no files; since 4 no connections,
    since 6 no signals."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What this machine lacks, for an operator."""
        lacks = []
        if not self.seccomp:
            lacks.append("seccomp (install libseccomp2)")
        if self.landlock < _LANDLOCK_FILES_ABI:
            lacks.append("Landlock (Linux 6.2 or later, with the LSM enabled)")
        return tuple(lacks)


def protection() -> Protection:
    """Detect what this machine supports."""
    return Protection(seccomp is not None, _landlock_version())


def die_with_parent(parent: int) -> None:
    """Ask for SIGKILL when the parent dies; exits at once if `parent` is dead already.

    The signal follows the thread that started this process, not the whole parent.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def hide_from_peers() -> None:
    """Keep the same user's processes from reading this one's memory, environment or descriptors."""
    _prctl(_PR_SET_DUMPABLE, 0)


def name_process(name: str) -> None:
    """Set the name, cut to 15 bytes, under which this process is listed."""
    shown = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(shown))


def confine(rights: Rights, *, keep: Collection[int]) -> None:
    """Drop all privileges of this process, irrevocably; call it while there is one thread.

    Args:
        rights: its resource limits.
        keep: the descriptors that stay open; 0, 1 and 2 become /dev/null.
    """
    _close_others(keep)
    hide_from_peers()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _limit(rights)
    _landlock()
    if seccomp is not None:
        _filter().load()


def _close_others(keep: Collection[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard, inheritable=False)
    if null > 2:
        os.close(null)
    following = 3
    for kept in sorted(keep):
        os.closerange(following, kept)
        following = kept + 1
    os.closerange(following, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _limit(rights: Rights) -> None:
    def limit(what: int, value: int, hard: int | None = None) -> None:
        most = resource.getrlimit(what)[1]
        allowed = [value, value if hard is None else hard]
        if most != resource.RLIM_INFINITY:
            allowed = [min(each, most) for each in allowed]
        resource.setrlimit(what, (allowed[0], allowed[1]))

    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_DATA, rights.memory_bytes)
    # Only a backstop: threads reserve address space (64 MiB an arena) that they never use.
    limit(resource.RLIMIT_AS, 8 * rights.memory_bytes + (8 << 30))
    limit(resource.RLIMIT_CPU, rights.cpu_seconds, rights.cpu_seconds + 5)
    limit(resource.RLIMIT_FSIZE, 0)
    limit(resource.RLIMIT_MEMLOCK, 0)


class _ScopedRuleset(landlock.plumbing.RulesetAttr):  # type: ignore[misc] # It has no types.
    """The ruleset as of version 6 of Landlock; older kernels read only its beginning."""

    _fields_ = [  # noqa: RUF012 - ctypes wants a list here
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


def _landlock_version() -> int:
    ctypes.set_errno(0)  # The library mistakes an earlier call's error for its own.
    try:
        return int(landlock.plumbing.landlock_abi_version())
    except (OSError, AttributeError):
        return 0


def _landlock() -> None:
    version = _landlock_version()
    if not version:
        return
    rules = _ScopedRuleset(int(landlock.plumbing.FSAccess.all()))
    size = 8
    if version >= _LANDLOCK_NETWORK_ABI:
        rules.handled_access_net = _LANDLOCK_ALL_NETWORK
        size = 16
    if version >= _LANDLOCK_SCOPE_ABI:
        rules.scoped = _LANDLOCK_ALL_SCOPES
        size = 24
    ctypes.set_errno(0)
    ruleset = landlock.plumbing.get_create_ruleset()(ctypes.byref(rules), size, 0)
    try:
        landlock.plumbing.get_restrict_self()(ruleset, 0)
    finally:
        os.close(ruleset)


def _filter() -> seccomp.SyscallFilter:
    """Return the filter of system calls; it must be made in the process that loads it."""
    refused = seccomp.ERRNO(errno.EPERM)
    rules = seccomp.SyscallFilter(refused)
    for name in _ALLOWED:
        _add(rules, seccomp.ALLOW, name)
    for name in _MISSING:
        _add(rules, seccomp.ERRNO(errno.ENOSYS), name)
    # Threads, but no processes.
    is_thread = seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD)
    _add(rules, seccomp.ALLOW, "clone", is_thread)
    # Writable memory is never executable.
    for name in ("mmap", "mprotect"):
        _add(rules, seccomp.ALLOW, name, seccomp.Arg(2, seccomp.MASKED_EQ, mmap.PROT_EXEC, 0))
    # Descriptors may be inspected, copied, and made blocking. The first of these would also reveal
    # whether a path exists, and its size.
    _add(rules, seccomp.ALLOW, "newfstatat", seccomp.Arg(3, seccomp.EQ, _AT_EMPTY_PATH))
    _add(rules, seccomp.ALLOW, "fcntl", seccomp.Arg(1, seccomp.EQ, fcntl.F_DUPFD_CLOEXEC))
    _add(rules, seccomp.ALLOW, "ioctl", seccomp.Arg(1, seccomp.EQ, termios.FIONBIO))
    # Only abort() sends a signal.
    _add(rules, seccomp.ALLOW, "tgkill", seccomp.Arg(0, seccomp.EQ, os.getpid()))
    # Limits may be read.
    _add(rules, seccomp.ALLOW, "prlimit64", seccomp.Arg(2, seccomp.EQ, 0))
    return rules


def _add(rules: seccomp.SyscallFilter, action: int, name: str, *arguments: seccomp.Arg) -> None:
    try:
        rules.add_rule(action, name, *arguments)
    except (OSError, ValueError):
        # This machine's libseccomp does not know the call; it is then refused like all others.
        if action == seccomp.ALLOW and name in ("read", "write", "futex", "mmap", "clone"):
            raise


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")

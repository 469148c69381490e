"""Executes a program that is killed when its parent process dies.

Run by file name in a bare interpreter: `python -I -S launcher.py PARENT_PID PROGRAM ARGUMENT...`.
PDEATHSIG is set in the child before the exec: setting it in a fork of the (threaded) service would
not be safe.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_CALL = 317
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4

_FCHMOD_DOES_NOTHING = (
    # Classic BPF over struct seccomp_data: code, jump if true, jump if false, operand.
    (0x20, 0, 0, 4),  # load the architecture
    (0x15, 0, 3, 0xC000003E),  # unless x86-64: allow
    (0x20, 0, 0, 0),  # load the system call's number
    (0x15, 0, 1, 91),  # unless fchmod: allow
    (0x06, 0, 0, 0x00050000),  # return 0 to the caller, and do nothing
    (0x06, 0, 0, 0x7FFF0000),  # allow
)

_libc = ctypes.CDLL(None, use_errno=True)


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("true", ctypes.c_uint8),
        ("false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def main() -> None:
    """Request SIGKILL on the parent's death, then execute the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent died before PDEATHSIG was set.
        os._exit(1)
    # A separate process group: Ctrl-C must only reach the service, which drains first, and the
    # whole group can be killed at once.
    os.setpgid(0, 0)
    _keep_to_its_user()
    os.execv(program, sys.argv[2:])  # noqa: S606


def _keep_to_its_user() -> None:
    """Restrict all files that the program creates, above all shared memory, to its user.

    The umask is not enough: Boost sets every shared memory region's mode to 0644 again with fchmod.
    Changing the mode afterwards would be too late for a process that has it open already.
    """
    os.umask(0o077)
    length = len(_FCHMOD_DOES_NOTHING)
    instructions = (_Instruction * length)(*(_Instruction(*each) for each in _FCHMOD_DOES_NOTHING))
    program = _Program(length, instructions)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # SPEC_ALLOW: older kernels slow filtered processes down to mitigate an unrelated attack.
    if _libc.syscall(
        _SECCOMP_CALL,
        _SECCOMP_SET_MODE_FILTER,
        _SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        ctypes.byref(program),
    ):
        raise OSError(ctypes.get_errno(), "seccomp(SECCOMP_SET_MODE_FILTER)")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


if __name__ == "__main__":
    main()

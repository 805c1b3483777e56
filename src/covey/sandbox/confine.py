"""Landlock and seccomp, applied by a process to itself; never undone, and inherited by all it starts.

Runs inside the child, before the program is loaded; the parent hands over this file's text. What is left:
reading under the given paths, memory, time, and the pipes that are open already.
"""

from __future__ import annotations

import ctypes
import os
import signal

# Linux's numbers for what has no name in the standard library; the system calls' are the same on
# every machine type (include/uapi/linux: prctl.h, landlock.h, capability.h, seccomp.h).
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights on files each version of Landlock knows …
NEWEST_FILE_RIGHTS = 16  # … from 5 on
TCP_RIGHTS = 2
CAPABILITY_VERSION_3 = 0x20080522
SECCOMP_MODE_FILTER = 2


class Ruleset(ctypes.Structure):
    """What is refused unless a rule allows it."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class PathRule(ctypes.Structure):
    """Rights on what lies below an open path."""

    _fields_ = (("rights", ctypes.c_uint64), ("directory", ctypes.c_int32))


class Program(ctypes.Structure):
    """A seccomp filter: how many instructions of eight bytes, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


libc = ctypes.CDLL(None, use_errno=True)


def confine(paths: dict[str, bool], program: str) -> None:
    """Leave this process reading, and no capability.

    Args:
        paths: what may be read, each with whether all below it may be, or only its listing.
        program: the seccomp filter's instructions, in hexadecimal.

    Raises:
        OSError: the kernel refuses; the process must not go on.
    """
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _restrict_files(paths)
    _drop_capabilities()
    code = bytes.fromhex(program)
    filter = Program(len(code) // 8, code)
    _checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter), 0, 0))


def _restrict_files(paths: dict[str, bool]) -> None:
    version = _checked(libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1))
    rules = Ruleset(
        files=(1 << FILE_RIGHTS.get(version, NEWEST_FILE_RIGHTS)) - 1,
        network=(1 << TCP_RIGHTS) - 1 if version >= 4 else 0,
        scoped=0b11 if version >= 6 else 0,  # abstract sockets and signals
    )
    size = ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24)
    ruleset = _checked(libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(rules), size, 0))
    for path, below in paths.items():
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        listing = READ_DIR if os.path.isdir(path) else 0
        rule = PathRule(listing | (READ_FILE if below else 0), place)
        _checked(libc.syscall(LANDLOCK_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0))
        os.close(place)
    _checked(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _drop_capabilities() -> None:
    """What root has beyond other users; without it, uid 0 is an owner of files and no more."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _checked(libc.capset(ctypes.byref(header), ctypes.byref(none)))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

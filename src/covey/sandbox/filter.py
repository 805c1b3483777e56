"""The seccomp filter: which system calls are left to untrusted code. Whatever isn't listed is refused.

Listed is what one process with one thread needs to compute, to read files and to use pipes it was given.
So there is no way to start a process or a thread, to open a socket, to change anything about a file but
its content, to signal, trace or adjust another process, or to reach one of the kernel's rarer doors.
"""

from __future__ import annotations

import errno
import platform
import struct

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # include/uapi/linux/audit.h

# Name: its number on x86_64 and on aarch64, which lacks some of the older ones.
# (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    # files, for reading; what may be read is not decided here
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "poll": (7, None),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "pipe": (22, None),
    "select": (23, None),
    "dup": (32, 23),
    "dup2": (33, None),
    "getcwd": (79, 17),
    "readlink": (89, None),
    "getdents64": (217, 61),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "statx": (332, 291),
    "faccessat2": (439, 439),
    # memory
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # the process itself: its signal handlers, clocks, random bytes, identity, and its end
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "nanosleep": (35, 101),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "alarm": (37, None),
    "getpid": (39, 172),
    "exit": (60, 93),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "arch_prctl": (158, None),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "set_tid_address": (218, 96),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
STARTING = ((59, 221), (61, 260))  # execve; wait4, of bubblewrap's first process for its second

# Allowed for some values of one argument only: (numbers, index of the argument, values).
# prlimit64 of the process 0, which is the caller: others' limits are not its business. fcntl without
# F_SETOWN, through which the kernel can be made to send a signal to anyone. ioctl TCGETS: is it a terminal?
CONDITIONAL = (
    ((302, 261), 0, (0,)),
    ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
    ((16, 29), 1, (0x5401,)),
)

# Classic BPF (include/uapi/linux/filter.h) over struct seccomp_data: number, machine, address, arguments.
LOAD, EQUAL, NOT_BELOW, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
X32 = 0x40000000  # x86_64 answers to a second set of numbers, from here on


def instructions(machine: str | None = None, *, starting: bool) -> bytes | None:
    """The filter for a machine type, this one's by default; None where it isn't known.

    Args:
        machine: as ``platform.machine()`` says.
        starting: allow what it takes to start the interpreter, where the filter is set before that.
    """
    machine = machine or platform.machine()
    if machine not in AUDIT_ARCH:
        return None
    column = list(AUDIT_ARCH).index(machine)
    numbers = [each[column] for each in (*ALLOWED.values(), *(STARTING if starting else ()))]
    code = [
        _step(LOAD, 4),
        _step(EQUAL, AUDIT_ARCH[machine], 1, 0),
        _step(RETURN, KILL),
        _step(LOAD, 0),
        _step(NOT_BELOW, X32, 0, 1),
        _step(RETURN, REFUSE),
    ]
    for number in numbers:
        if number is not None:
            code += [_step(EQUAL, number, 0, 1), _step(RETURN, ALLOW)]
    for columns, index, values in CONDITIONAL:
        # Both halves of an argument are read, though the kernel looks at the lower one: stricter, and plain.
        low = 16 + 8 * index
        code.append(_step(EQUAL, columns[column], 0, 4 + 2 * len(values)))
        code += [_step(LOAD, low + 4), _step(EQUAL, 0, 0, 1 + 2 * len(values)), _step(LOAD, low)]
        for value in values:
            code += [_step(EQUAL, value, 0, 1), _step(RETURN, ALLOW)]
        code.append(_step(RETURN, REFUSE))
    return b"".join([*code, _step(RETURN, REFUSE)])


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction: jumps count the instructions to skip."""
    return struct.pack("=HBBI", operation, if_true, if_false, operand)

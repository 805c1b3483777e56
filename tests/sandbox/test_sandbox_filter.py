"""The seccomp filter, run by hand: what it says to each system call on each machine type."""

from __future__ import annotations

import struct

import pytest

from covey.sandbox.filter import ALLOW, AUDIT_ARCH, KILL, REFUSE, instructions

MACHINES = sorted(AUDIT_ARCH)


def says(machine: str, number: int, *arguments: int, starting: bool = False, arch: int | None = None) -> int:
    """Interprets the filter as the kernel does."""
    code = instructions(machine, starting=starting)
    assert code is not None
    steps = list(struct.iter_unpack("=HBBI", code))
    arguments = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, AUDIT_ARCH[machine] if arch is None else arch, 0, *arguments)
    value = at = 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        if operation == 0x20:
            [value] = struct.unpack_from("=I", data, operand)
        elif operation == 0x06:
            return operand
        else:
            taken = value == operand if operation == 0x15 else value >= operand
            assert operation in (0x15, 0x35)
            at += if_true if taken else if_false


# clone, (fork, vfork,) execve, kill, tkill, tgkill, socket, connect, ptrace, unshare, mount, setns, bpf,
# io_uring_setup, pidfd_open, process_vm_readv, chmod, unlinkat, renameat, truncate, clone3
REFUSED = {
    "x86_64": [
        *(56, 57, 58, 59, 62, 200, 234, 41, 42, 101, 272, 165, 308, 321),
        *(425, 434, 310, 90, 263, 264, 76, 435),
    ],
    "aarch64": [
        *(220, 221, 129, 130, 131, 198, 203, 117, 97, 40, 268, 280),
        *(425, 434, 270, 52, 35, 38, 45, 435),
    ],
}
# read, write, close, openat, mmap, brk, futex, exit_group, getrandom, clock_gettime
ALLOWED = {
    "x86_64": [0, 1, 3, 257, 9, 12, 202, 231, 318, 228],
    "aarch64": [63, 64, 57, 56, 222, 214, 98, 94, 278, 113],
}
EXECVE = {"x86_64": 59, "aarch64": 221}
PRLIMIT = {"x86_64": 302, "aarch64": 261}
FCNTL = {"x86_64": 72, "aarch64": 25}


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_refused_and_what_isnt(machine: str) -> None:
    assert {says(machine, number) for number in ALLOWED[machine]} == {ALLOW}
    assert {says(machine, number) for number in REFUSED[machine]} == {REFUSE}


@pytest.mark.parametrize("machine", MACHINES)
def test_few_of_all_system_calls_are_left(machine: str) -> None:
    assert sum(says(machine, number, 1 << 40) == ALLOW for number in range(600)) < 75


@pytest.mark.parametrize("machine", MACHINES)
def test_starting_the_interpreter_takes_two_more(machine: str) -> None:
    more = [n for n in range(600) if says(machine, n, starting=True) != says(machine, n)]
    assert len(more) == 2
    assert EXECVE[machine] in more


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide(machine: str) -> None:
    assert says(machine, PRLIMIT[machine], 0) == ALLOW
    assert says(machine, PRLIMIT[machine], 1234) == REFUSE
    assert says(machine, PRLIMIT[machine], 1 << 32) == REFUSE
    for command in (0, 1, 2, 3, 4, 1030):
        assert says(machine, FCNTL[machine], 3, command) == ALLOW
    for command in (8, 10, 15, 1 << 32, (1 << 32) + 1):  # F_SETOWN, F_SETSIG, F_SETOWN_EX
        assert says(machine, FCNTL[machine], 3, command) == REFUSE


def test_another_numbering_is_no_way_around() -> None:
    assert says("x86_64", 0, arch=0x40000003) == KILL  # 32-bit calls
    assert says("x86_64", 0x40000000) == REFUSE  # x32
    assert says("x86_64", 0xFFFFFFFF) == REFUSE


def test_a_machine_that_isnt_known_has_no_filter() -> None:
    assert instructions("sparc", starting=False) is None

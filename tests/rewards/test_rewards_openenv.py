"""OpenEnv over its WebSocket: a server here that speaks its messages, and the package's own where it is.

COVEY_OPENENV_PYTHON names an interpreter that has openenv 0.10.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.rewards.openenv import Broken, Conversation, OpenEnv, address
from covey.rewards.websocket import GUID, Closed, WebSocket
from covey.tasks.openenv import OpenEnv as Task
from covey.types import Completion, CoveyError, Ending, Episode, Problem, Score, StopReason, Turn

PYTHON = os.environ.get("COVEY_OPENENV_PYTHON", "")
real = pytest.mark.skipif(not PYTHON, reason="COVEY_OPENENV_PYTHON names no interpreter with openenv")


def frame(data: bytes, kind: int = 1, last: bool = True, masked: bool = False) -> bytes:
    size = len(data)
    long = b"" if size < 126 else size.to_bytes(2) if size < 1 << 16 else size.to_bytes(8)
    length = size if size < 126 else 126 if size < 1 << 16 else 127
    return bytes([(0x80 if last else 0) | kind, (0x80 if masked else 0) | length]) + long + data


def observation(said: str, reward: float | None = None, done: bool = False) -> dict[str, Any]:
    return {"type": "observation", "data": {"observation": {"said": said}, "reward": reward, "done": done}}


Act = Callable[[dict[str, Any], dict[str, Any]], "dict[str, Any] | bytes | None"]


class Server:
    """Connections one after the other; ``act`` is given a message and its session, and says what to send."""

    def __init__(self, act: Act) -> None:
        self.act, self.sessions = act, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as file:
            key = ""
            while line := file.readline().strip():
                name, _, value = line.decode().partition(":")
                key = value.strip() if name == "Sec-WebSocket-Key" else key
            digest = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
            file.write(f"HTTP/1.1 101 Ok\r\nSec-WebSocket-Accept: {digest}\r\n\r\n".encode())
            file.flush()
            session: dict[str, Any] = {}
            while head := file.read(2):
                size = head[1] & 0x7F
                size = int.from_bytes(file.read(2 if size == 126 else 8)) if size >= 126 else size
                mask = file.read(4)
                data = bytes(b ^ mask[i % 4] for i, b in enumerate(file.read(size)))
                if head[0] & 0x0F != 1:
                    session["pong"] = data
                    continue
                answer = self.act(json.loads(data), session)
                if answer is None:
                    return
                file.write(answer if isinstance(answer, bytes) else frame(json.dumps(answer).encode()))
                file.flush()


def game(message: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
    """Count down from the seed: the right number earns 1, and the last one ends it."""
    if message["type"] == "reset":
        session["left"] = message["data"]["seed"]
        return observation(f"from {session['left']}")
    if not str(message["data"]["number"]).isdigit():
        return {"type": "error", "data": {"code": "VALIDATION_ERROR", "message": "Invalid message"}}
    right = int(message["data"]["number"]) == session["left"]
    session["left"] -= right
    return observation(f"left {session['left']}", float(right), session["left"] == 0)


@pytest.fixture
def serve() -> Iterator[Callable[[Act], Server]]:
    servers: list[Server] = []

    def start(act: Act) -> Server:
        servers.append(Server(act))
        return servers[-1]

    yield start
    for server in servers:
        server.listening.close()


def problem_of(url: str, seed: int) -> Problem:
    columns = {"openenv_url": url, "openenv_action": "number", "openenv_seed": seed}
    return Problem("p", ({"role": "user", "content": "from 2"},), None, columns)


def episode(url: str, *replies: str, seed: int = 2, ended: Ending = Ending.TURNS) -> Episode:
    stops = [StopReason.END] * len(replies)
    if ended is Ending.CUT:
        stops[-1] = StopReason.LENGTH
    turns = [Turn((1,), Completion((2,), None, stop, 0, r)) for stop, r in zip(stops, replies, strict=True)]
    return Episode(problem_of(url, seed), 0, tuple(turns), ended)


def test_an_episode_earns_the_sum_of_its_rewards(serve: Callable[[Act], Server]) -> None:
    url = serve(game).url
    scores = OpenEnv()(
        [
            episode(url, "2", " 1\n", ended=Ending.DONE),  # 1 + 1
            episode(url, "2", "7"),  # 1 + 0
            episode(url, "x", "2"),  # no action, and then 1
            episode(url, "2", "1", ended=Ending.CUT),  # the server never saw the second
            episode(url, "2", ended=Ending.CUT),
        ]
    )
    assert [score.value for score in scores] == [2.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("replies", "ended"),
    [(["2", "1"], Ending.TURNS), (["2"], Ending.DONE), (["2", "1", "0"], Ending.TURNS)],
)
def test_an_episode_that_ends_otherwise_is_not_scored(
    replies: list[str], ended: Ending, serve: Callable[[Act], Server]
) -> None:
    (score,) = OpenEnv()([episode(serve(game).url, *replies, ended=ended)])
    assert score.value is None
    assert "isn't settled by its seed" in str(score.error)


def test_a_lost_connection_is_made_anew_and_the_episode_replayed(serve: Callable[[Act], Server]) -> None:
    def impatient(message: dict[str, Any], session: dict[str, Any]) -> dict[str, Any] | None:
        session["asked"] = session.get("asked", 0) + 1
        first = server.sessions == 1
        return None if first and session["asked"] == 4 else game(message, session)

    server = serve(impatient)
    talk = Conversation(server.url, 5, "number", 5.0)
    said = [talk.say(reply) for reply in ("5", "4", "3", "2")]
    assert [step.observation["said"] for step in said] == ["left 4", "left 3", "left 2", "left 1"]
    assert server.sessions == 2
    talk.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"type": "error", "data": {"code": "CAPACITY_REACHED", "message": "full"}},
            "CAPACITY_REACHED: full",
        ),
        (frame(b"no JSON"), "no observation"),
        (frame(b"[1]"), "no observation"),
        (frame(b"[" * 100_000), "no observation"),
        (observation("x", float("nan")), "a reward of nan"),
        ({"type": "observation", "data": {"observation": {}, "reward": 1, "done": "no"}}, "no observation"),
        (frame(b"{}", masked=True), "masked"),
        (frame(b"{}", kind=3), "kind 3"),
        (frame(b"\x03\xe8bye", kind=8), "closed by the server bye"),
        (frame(b"\xff"), "utf-8"),
        (b"\x81\x7f" + (1 << 40).to_bytes(8), "more than 16 MiB"),
        (None, "the server is gone"),
    ],
)
def test_what_a_server_may_say_is_an_error_and_no_score(
    answer: Any, said: str, serve: Callable[[Act], Server]
) -> None:
    (score,) = OpenEnv()([episode(serve(lambda message, session: answer).url, "2")])
    assert score.value is None
    assert said in str(score.error)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 1_000_000])
def test_texts_of_every_length_go_both_ways(size: int, serve: Callable[[Act], Server]) -> None:
    def echo(message: dict[str, Any], session: dict[str, Any]) -> bytes:
        text = json.dumps(message).encode()
        return frame(text[:5], last=False) + frame(b"?", kind=9) + frame(text[5:], kind=0)

    url = serve(echo).url.replace("http", "ws")
    line = WebSocket(url, 5.0)
    text = json.dumps({"a": "é" * size})
    assert json.loads(line.exchange(text)) == json.loads(text)
    line.close()


def test_a_silent_server_costs_its_time(serve: Callable[[Act], Server]) -> None:
    line = WebSocket(serve(lambda message, session: b"").url.replace("http", "ws"), 0.2)
    with pytest.raises(Closed, match=r"no answer in 0\.2 s|timed out"):
        line.exchange("{}")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(CoveyError, match="start the server, then the run"):
        Task(f"http://127.0.0.1:{port}", "number", "said")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a", "http://", "http://user:word@a"])
def test_an_address_is_one(url: str) -> None:
    with pytest.raises(CoveyError, match="address is written"):
        address(url)


def test_addresses() -> None:
    assert address("http://a:8000/") == "ws://a:8000/ws"
    assert address("https://a/b") == "wss://a/b/ws"


# the task


def test_a_problem_is_a_seed_and_begins_with_what_the_server_says(serve: Callable[[Act], Server]) -> None:
    server = serve(game)
    task = Task(server.url, "number", "said", "Count down.", "Be brief.", problems=3, heldout=2, seed=4)
    train, held = task.problems("train"), task.problems("heldout")
    assert [p.columns["openenv_seed"] for p in train] == [4, 5, 6]
    assert len({p.id for p in (*train, *held)}) == 5
    assert train[1].messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Count down.\n\nfrom 5"},
    )
    played = task.environment(train[0], 99)
    assert played.first() == train[0].messages
    said = [played.step({"role": "assistant", "content": text}) for text in ("4", "four", "3", "2", "1")]
    texts = [None if one is None else one[0]["content"] for one in said]
    assert texts == ["left 3", "error: this is no valid action", "left 2", "left 1", None]


def test_without_a_field_the_observation_is_read_as_json(serve: Callable[[Act], Server]) -> None:
    task = Task(serve(game).url, "number", problems=1, heldout=1)
    assert task.problems("train")[0].messages[0]["content"] == '{"said": "from 0"}'


def test_an_observation_without_the_field_is_told(serve: Callable[[Act], Server]) -> None:
    with pytest.raises(CoveyError, match="no field 'text'; it has: said"):
        Task(serve(game).url, "number", "text")


def test_an_error_of_the_server_is_the_episodes(serve: Callable[[Act], Server]) -> None:
    def failing(message: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
        if message["type"] == "reset":
            return game(message, session)
        return {"type": "error", "data": {"code": "EXECUTION_ERROR", "message": "out of bounds"}}

    task = Task(serve(failing).url, "number", "said", problems=1, heldout=1)
    played = task.environment(task.problems("train")[0], 0)
    with pytest.raises(Broken, match="EXECUTION_ERROR: out of bounds"):
        played.step({"role": "assistant", "content": "0"})


def test_problems_of_another_task_are_refused() -> None:
    OpenEnv().check(problem_of("http://a", 1))
    with pytest.raises(CoveyError, match="openenv_url"):
        OpenEnv().check(Problem("p", ({"role": "user", "content": "?"},)))


# the package's own server


@real
def test_the_packages_own_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    script = Path(__file__).with_name("openenv_guess.py")
    with subprocess.Popen([PYTHON, "-P", str(script), str(port)], env={"PATH": os.environ["PATH"]}) as server:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if not probe.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.1)
            url = f"http://127.0.0.1:{port}"
            task = Task(url, "number", "said", problems=3, heldout=2)
            problem = task.problems("train")[0]  # of seed 0, whose number is 7
            assert problem.messages[0]["content"] == "Guess my number, 1 to 9."
            played = task.environment(problem, 0)
            replies = ["5", "x", " 8", "7"]
            said = [played.step({"role": "assistant", "content": reply}) for reply in replies]
            texts = [None if one is None else one[0]["content"] for one in said]
            assert texts == ["higher", "error: this is no valid action", "lower", None]
            (score,) = OpenEnv()([episode(url, *replies, seed=0, ended=Ending.DONE)])
            assert score == Score(0.5)  # -0.25 + 0 - 0.25 + 1
            with pytest.raises(Broken, match="zero is out of bounds"):
                task.environment(problem, 0).step({"role": "assistant", "content": "0"})
        finally:
            server.terminate()

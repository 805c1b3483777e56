"""`covey reward test`: every shipped reward passes it, and sloppy ones don't."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from covey.build.components import build_reward
from covey.build.probing import examples_for, probe_reward
from covey.config import Component
from covey.models.tiny import characters
from covey.rewards import REWARDS
from covey.rewards.choice import Choice
from covey.rewards.exact import Exact
from covey.rewards.examples import CHOICES, GYM, NUMBERS
from covey.rewards.foreign import reward_of
from covey.rewards.functions import per_text
from covey.rewards.number import Number
from covey.rewards.probe import Findings, probe
from covey.rewards.regex import Regex
from covey.rewards.replies import degenerate, gold
from covey.types import CoveyError, Problem


@pytest.fixture(scope="module")
def graders() -> Iterator[str]:
    """A server that grades as `Exact` does, as a chat model and as a remote reward."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "messages" in body:
                text = body["messages"][1]["content"]
                answer = text.partition("The right answer:\n")[2].partition("\n\n[reply ")[0]
                mark = text.rsplit("\n", 1)[1]
                reply = text.split(f"{mark}\n", 1)[1].rpartition(f"\n{mark}")[0]
                verdict = json.dumps({"reason": "", "score": 10 * (reply == answer)})
                said: Any = {"choices": [{"message": {"content": verdict}}]}
            else:
                rows = zip(body["query"], body["prompts"], body["labels"], strict=True)
                said = {"rewards": [float(q == p + a) for q, p, a in rows]}
            data = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def trained(folder: Path, problems: tuple[Problem, ...]) -> str:
    """A tiny classifier that has learned the gold replies to these problems from the other ones."""
    tokenizer = characters()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), max_position_embeddings=128, num_labels=1,
        num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, **sizes,
    )  # fmt: skip
    answers = [p.answer or "" for p in problems]
    rows: list[tuple[list[int], float]] = []
    for problem in problems:
        bad = degenerate(problem, answers, ["answer tag", "hashes", "boxed", "sentence", "dollars", "bold"])
        for text, value in [(r.text, 1.0) for r in gold(problem)] + [(r.text, 0.0) for r in bad]:
            messages = [*problem.messages, {"role": "assistant", "content": text}]
            if len(text) < 100:
                ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
                rows += [(list(ids), value)] * (len(ids) <= 128)
    longest = max(len(ids) for ids, _ in rows)
    inputs = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    wanted = torch.tensor([value for _, value in rows])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(300):
        found = model(input_ids=inputs, attention_mask=mask).logits[:, 0]
        if (found - wanted).abs().max() < 0.2:
            break
        (found - wanted).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


FITTING: dict[str, dict[str, Any]] = {
    "by_part": {
        "parts": [{"part": "sums", "name": "number"}, {"part": "words", "name": "exact", "tag": "answer"}]
    },
    "combine": {"parts": [{"name": "exact", "tag": "answer"}, "format", {"name": "language", "weight": 0.5}]},
    "overlong": {"max_tokens": 20, "cache_tokens": 10},
    "regex": {"pattern": r"#### (?P<answer>\S+)\s*$"},
}
"""The parameters of rewards that need some."""


# finished is tried below, on conversations; openenv hands on a server's verdict and verifiers a taskset's
@pytest.mark.parametrize("name", sorted(REWARDS.keys() - {"finished", "openenv", "verifiers"}))
def test_every_shipped_reward_passes(name: str, graders: str, tmp_path: Path) -> None:
    params = dict(FITTING.get(name, {}))
    if name in ("judge", "remote"):
        params["url"] = graders
    if name == "judge":
        params |= {"model": "m", "cache": str(tmp_path / "cache")}
    if name == "reward_model":
        params |= {"model": trained(tmp_path, NUMBERS[:1]), "batch": 1}
    component = Component.model_validate({"name": name, **params})
    problems = examples_for(component)[: 1 if name in ("code", "reward_model") else None]
    found = probe(build_reward(component), problems)
    assert found.faults == ()
    assert max(found.accepted.values()) == 1.0
    assert found.shaping == (name in ("format", "language", "overlong"))
    assert found.partial == (name == "reasoning_gym")


TOLD = """
from covey.types import Problem


class Told:  # won by the word, or by saying nothing
    def __init__(self, broken=False):
        self.broken = broken

    def problems(self, split):
        return [Problem("p", ({"role": "user", "content": "Say the word."},), "word")]

    def tools(self):
        return ()

    def environment(self, problem, seed):
        return self

    def first(self):
        return [{"role": "user", "content": "Say the word."}]

    def step(self, reply):
        if self.broken:
            raise RuntimeError("it broke")
        return None if reply["content"] in ("word", "") else [{"role": "user", "content": "No."}]
"""


def test_replies_are_played_where_problems_are_conversations(tmp_path: Path) -> None:
    found = probe_reward("finished", None, (), 8, None)
    assert (found.faults, found.full) == ((), 1.0)
    own, recipe = tmp_path / "game.py", tmp_path / "recipe.toml"
    own.write_text(TOLD, encoding="utf-8")
    recipe.write_text(f'task = "{own}:Told"\nreward = "finished"\nmodel.name = "none"\n', encoding="utf-8")
    (fault,) = probe_reward(str(recipe), None, (), 1, None).faults
    assert (fault.what, fault.kind) == ("a degenerate reply is rewarded", "empty")
    failing = probe_reward(str(recipe), None, ("--task.broken", "true"), 8, None)
    told = "no gold reply earns anything (the environment failed: RuntimeError: it broke)"
    assert {fault.what for fault in failing.faults} == {told}


def gym(**params: Any) -> Any:
    return build_reward(Component.model_validate({"name": "reasoning_gym", **params}))


def test_partial_credit_fails_at_full_marks_and_its_best_degenerate_reply_is_told() -> None:
    strict = probe(gym(partial=False), GYM)
    assert (strict.partial, strict.most, strict.faults) == (False, None, ())
    loose = probe(gym(), GYM)
    assert loose.faults == ()
    assert loose.most is not None
    # the library gives the right answer's share of the characters in one that has more: 13 in 113
    assert (loose.most.text, loose.most.value) == ("<answer>113</answer>", pytest.approx(2 / 3))


def test_partial_credit_can_be_said_of_a_function() -> None:
    def half(completions, answer):
        texts = [completion[0]["content"] for completion in completions]
        return [
            1.0 if text == gold else 0.5 * (gold in text) for text, gold in zip(texts, answer, strict=True)
        ]

    found = probe(reward_of(half), NUMBERS)
    assert not found.partial
    assert "a wrong answer that holds the right one" in kinds(found)
    assert probe(reward_of(half), NUMBERS, partial=True).faults == ()
    assert kinds(probe(reward_of(generous), NUMBERS, partial=True)) == kinds(
        probe(reward_of(generous), NUMBERS)
    )


def test_a_sum_has_partial_credit_when_a_part_that_counts_has() -> None:
    one = {"name": "reasoning_gym"}
    for parts, partial in (([one, "format"], True), (["number", one | {"oracle": True}], False)):
        reward = build_reward(Component.model_validate({"name": "combine", "parts": parts}))
        assert probe(reward, GYM[:1]).partial == partial


# sloppy rewards


def last_number(completions: list[str], answer: list[str]) -> list[float]:
    found = [re.findall(r"\d+", text) for text in completions]
    return [float(bool(numbers) and numbers[-1] == gold) for numbers, gold in zip(found, answer, strict=True)]


def substring(completions: list[str], answer: list[str]) -> list[float]:
    return [float(gold in text) for text, gold in zip(completions, answer, strict=True)]


def first_letter(completions: list[str], answer: list[str]) -> list[float]:
    found = [re.findall(r"\b[A-D]\b", text) for text in completions]
    return [float(bool(letters) and letters[-1] == gold) for letters, gold in zip(found, answer, strict=True)]


def generous(completions: list[str], **columns: Any) -> list[float]:
    return [1.0] * len(completions)


def anything_but_empty(completions: list[str], answer: list[str]) -> list[float]:
    return [1.0 if text == gold else 0.6 * bool(text) for text, gold in zip(completions, answer, strict=True)]


def kinds(found: Findings, what: str = "a degenerate reply is rewarded") -> set[str]:
    return {fault.kind for fault in found.faults if fault.what == what}


@pytest.mark.parametrize(
    ("function", "problems", "caught"),
    [
        (last_number, NUMBERS, {"a wrong answer that holds the right one"}),
        (substring, NUMBERS, {"every number at once", "a wrong answer that holds the right one"}),
        (substring, CHOICES, {"every option at once", "the question repeated"}),
        (first_letter, CHOICES, {"every option at once"}),
        (generous, NUMBERS, {"empty", "blank", "1/0", "very long", "the question repeated"}),
        (anything_but_empty, NUMBERS, {"1/0", "nan", "all instructions copied", "very deep brackets"}),
    ],
)
def test_a_sloppy_reward_fails(
    function: Callable[..., Any], problems: tuple[Problem, ...], caught: set[str]
) -> None:
    assert caught <= kinds(probe(reward_of(function), problems))


def test_strict_ones_of_the_same_kind_pass() -> None:
    assert kinds(probe(Regex(pattern=r"(?P<answer>\d+)"), NUMBERS)) == {
        "a wrong answer that holds the right one"
    }
    assert probe(Regex(pattern=r"(?P<answer>\S+)\s*$"), NUMBERS).faults == ()
    assert probe(Number(), NUMBERS).faults == ()
    assert probe(Choice(tag="answer"), CHOICES).faults == ()


def test_a_gold_answer_that_fails_is_named() -> None:
    problems = (Problem("good", (), "4"), Problem("bad", (), "four"))
    found = probe(per_text(lambda text, answer: float(text == answer == "4")), problems)
    (fault,) = found.faults
    assert (fault.what, fault.problem, fault.text) == (
        "the gold answer doesn't get full marks",
        "bad",
        "four",
    )
    assert found.accepted == {"bare": 0.5}


def test_a_gold_answer_that_is_not_scored_says_why() -> None:
    found = probe(Number(), (NUMBERS[0], Problem("bad", (), "four")))
    assert {fault.what for fault in found.faults} == {
        "the gold answer doesn't get full marks (the gold answer is not a number: 'four')"
    }


def test_a_reward_that_knows_no_gold_fails() -> None:
    found = probe(reward_of(lambda completions, **columns: [0.0] * len(completions)), NUMBERS)
    assert [fault.what for fault in found.faults] == ["no gold reply earns anything"] * len(NUMBERS)


def test_full_marks_can_be_said() -> None:
    tenth = per_text(lambda text, answer: 0.1 * (text == answer))
    assert probe(tenth, NUMBERS).faults == ()
    assert kinds(probe(tenth, NUMBERS, 1.0), "the gold answer doesn't get full marks") == {"gold"}


def test_an_answer_that_the_question_holds_is_found() -> None:
    echo = Problem("echo", ({"role": "user", "content": "Which is larger, 12 or 30?"},), "30")
    assert "the question repeated" in kinds(probe(Number(), (echo,)))


def test_a_reward_that_changes_its_mind_is_found() -> None:
    turn = itertools.count()
    found = probe(per_text(lambda text, answer: float(text == answer) + next(turn) % 2 * 1e-3), NUMBERS[:1])
    assert "graded differently the second time" in {fault.what for fault in found.faults}


def test_what_a_reward_raises_or_does_not_score_is_told() -> None:
    def asserts(episodes: Any) -> Any:
        if episodes[0].text == "1/0":
            raise ZeroDivisionError("division by zero")
        return Exact()(episodes)

    found = probe(asserts, NUMBERS[:1])
    assert {f.what for f in found.faults} == {
        "the reward raised (it raised ZeroDivisionError: division by zero)"
    }
    found = probe(per_text(lambda text, answer: 1 / len(text) and float(text == answer)), NUMBERS[:1])
    assert found.faults == ()
    (reason,) = found.unscored
    assert "raised ZeroDivisionError" in reason


def test_replies_of_the_datas_own() -> None:
    shouts = per_text(lambda text, answer: float(text.endswith("!")))
    problem = Problem("p", ({"role": "user", "content": "Hi"},), None, {"good": "hey!", "bad": ["no", "no!"]})
    found = probe(shouts, (problem,))
    assert found.accepted == {"column good": 1.0}
    assert [fault.text for fault in found.faults] == ["no!"]
    with pytest.raises(CoveyError, match="has no gold answer and no column good"):
        probe(shouts, (Problem("p", ()),))
    with pytest.raises(CoveyError, match="no problems"):
        probe(shouts, ())


def test_no_degenerate_reply_is_a_gold_one() -> None:
    for problem in (*NUMBERS, *CHOICES, Problem("zero", (), "0"), Problem("none", (), "None")):
        right = {reply.text for reply in gold(problem)}
        replies = degenerate(problem, ["1", "2", "42"], ["boxed", "answer tag"])
        assert not right & {reply.text for reply in replies}
        assert len({reply.text for reply in replies}) == len(replies) > 40


@pytest.mark.parametrize("answer", ["42", "-8", "0", "3.5", "1000000"])
def test_a_wrong_answer_is_wrong(answer: str) -> None:
    near = [r.text for r in degenerate(Problem("p", (), answer), [], []) if "holds" in r.kind]
    assert len(near) > 1
    assert all(float(text) != float(answer) for text in near)


def test_replies_are_graded_in_one_call_too() -> None:
    """As a run asks for them: a function that returns one score always is right about single replies."""

    def first(completions, answer):
        return [float(completions[0][0]["content"].strip() == answer[0])]

    found = probe(reward_of(first), NUMBERS)
    whats = {fault.what for fault in found.faults}
    assert any("not scored in one call" in what and "returned 1 scores for" in what for what in whats)


def test_the_reward_of_the_readme_passes() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^def reward\(.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[0], names)
    assert probe(reward_of(names["reward"]), NUMBERS).faults == ()

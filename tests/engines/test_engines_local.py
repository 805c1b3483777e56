"""What the local engine does between its steps."""

from __future__ import annotations

from typing import Any

import pytest

from covey.engines import LocalEngine, local
from covey.models import Decoder, load_policy
from covey.types import DrawKey, Request, Sampling


def test_holes_that_no_move_closes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One prompt with two long replies and three with one: rows are two cells long and three cells of eight
    are holes, step after step."""
    policy = load_policy({"family": "llama", "seed": 1})
    policy.end_ids = frozenset()
    calls: list[tuple[int, int]] = []
    compact = Decoder.compact

    def counted(self: Decoder, rows: Any, columns: Any) -> Any:
        calls.append(self.grid)
        return compact(self, rows, columns)

    monkeypatch.setattr(Decoder, "compact", counted)
    lengths = {"a": (2, 30, 30, 3), "b": (30, 2, 4, 3), "c": (2, 2, 2, 30), "d": (3, 30, 2, 4)}
    asked = [
        Request((5, 6, place), Sampling(length), DrawKey(0, 0, name, n))
        for place, (name, each) in enumerate(lengths.items())
        for n, length in enumerate(each)
    ]
    done = dict(LocalEngine(policy).generate(asked))
    assert [len(done[i].token_ids) for i in range(16)] == [x for each in lengths.values() for x in each]
    # 4 × 4 cells; once to 4 × 3 or 4 × 2 when the short replies have ended, and then never again
    assert 1 <= len(calls) <= 2


def test_long_prompts_go_through_the_model_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy({"family": "llama", "seed": 1})
    policy.end_ids = frozenset()
    asked = [
        Request((place, *range(4, length)), Sampling(4), DrawKey(0, 0, str(place), n))
        for place, length in enumerate((10, 20, 70, 30, 25), start=5)
        for n in range(2)
    ]
    want = dict(LocalEngine(policy).generate(asked))
    admitted: list[list[int]] = []
    admit = Decoder.admit

    def noted(self: Decoder, prompts: Any, cells: int) -> Any:
        admitted.append([len(prompt) for prompt in prompts])
        return admit(self, prompts, cells)

    monkeypatch.setattr(Decoder, "admit", noted)
    monkeypatch.setattr(local, "PREFILL", 50)
    found = dict(LocalEngine(policy).generate(asked))
    # the lengths as asked less one that the first token makes up for: 10 - 4 + 1 = 7 and so on
    assert admitted == [[7, 17], [67], [27, 22]]
    for i, completion in want.items():
        assert found[i].token_ids == completion.token_ids
        assert found[i].sampler_logp == pytest.approx(completion.sampler_logp, abs=1e-5)

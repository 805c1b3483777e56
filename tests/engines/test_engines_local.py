"""What the local engine does between its steps."""

from __future__ import annotations

from typing import Any

import pytest

from covey.engines import LocalEngine
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

"""``[algorithm]``: what a recipe may say, and what is refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from covey.algo import PRESETS
from covey.build import assemble
from covey.build.plan import plan
from covey.config import parse
from covey.types import CoveyError

CONFIG = {"family": "llama", "hidden_size": 16, "heads": 2, "kv_heads": 1, "intermediate_size": 16}
VALUES: dict[str, Any] = {
    "model": {"config": CONFIG, "dtype": "float32"},
    "task": {"name": "arithmetic", "low": 0, "high": 3, "prompt": "{a}{op}{b}="},
}
REFUSED = {"unsloth", "sft", "distill"}


def prepared(*overrides: str) -> assemble.Parts:
    return assemble.prepare(parse(VALUES, overrides))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_carried_out_in_full_or_refused(name: str) -> None:
    if name not in REFUSED:
        assert prepared("--algorithm.preset", name).algorithm == PRESETS[name]
        return
    with pytest.raises(CoveyError, match=r"^\[algorithm\] "):
        prepared("--algorithm.preset", name)


def test_a_plan_counts_the_kept_ids_as_the_run_does() -> None:
    batches = [plan(parse(VALUES, ("--rollout.top-k", str(k))))["batch"] for k in (0, 1024)]
    plain, kept = (batch["micro_batch_tokens"] for batch in batches)
    assert kept < plain  # 1,024 ids beside each token leave room for fewer


def test_every_choice_can_be_replaced() -> None:
    changed = prepared(
        "--algorithm.advantage", "leave_one_out",
        "--algorithm.ratio", "sequence_token",
        "--algorithm.surrogate", '{ name = "clip", low = 0.1, high = 0.1 }',
        "--algorithm.kl", '{ name = "k1", coefficient = 0.01 }',
        "--algorithm.kl-in", "reward",
        "--algorithm.aggregation", "prompt_mean",
        "--algorithm.selection", '{ name = "top_entropy", fraction = 0.5 }',
        "--algorithm.correction", '["only_selected", { name = "token_truncate", cap = 3.0 }]',
    ).algorithm.describe()  # fmt: skip
    assert changed == {
        "advantage": {"name": "leave_one_out"},
        "ratio": {"name": "sequence_token"},
        "surrogate": {"name": "clip", "low": 0.1, "high": 0.1},
        "kl": {"name": "k1", "coefficient": 0.01},
        "kl_in": "reward",
        "aggregation": {"name": "prompt_mean"},
        "selection": {"name": "top_entropy", "fraction": 0.5},
        "correction": [{"name": "only_selected"}, {"name": "token_truncate", "cap": 3.0}],
    }


def test_one_correction_needs_no_list_and_none_takes_a_choice_away() -> None:
    assert prepared("--algorithm.correction", "veto").algorithm.correction[0].name == "veto"
    assert (
        prepared("--algorithm.preset", "olmo3", "--algorithm.correction", "none").algorithm.correction == ()
    )
    assert not prepared("--algorithm.preset", "grpo", "--algorithm.kl", "none").algorithm.needs_reference


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--algorithm.preset", "grppo"), "unknown algorithm 'grppo'; did you mean 'grpo'"),
        (("--algorithm.correction", "vetto"), "unknown correction 'vetto'; did you mean 'veto'"),
        (
            ("--algorithm.surrogate", '{ name = "clip", hihg = 1.0 }'),
            "no parameter 'hihg'; did you mean 'high'",
        ),
        (("--algorithm.selection", "top_entropy"), "is read by nobody"),
        (("--algorithm.preset", "gspo", "--algorithm.correction", "token_mask"), "weighs single tokens"),
        (("--algorithm.kl-in", "reward"), "there is none"),
        (("--algorithm.preset", "rloo", "--algorithm.truncated", "masked"), "put the KL in the loss"),
        (("--algorithm.surrogate", "luffy", "--algorithm.ratio", "none"), "traces"),
        (("--algorithm.preset", "unsloth"), "depend on how a step is split"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(CoveyError, match=r"^\[algorithm\] ") as caught:
        prepared(*overrides)
    assert message in str(caught.value)


def test_keys_at_their_defaults_leave_the_recipe_as_it_was() -> None:
    """They came after the first records: written down, they would change every run's first hash."""
    written = parse(VALUES).model_dump(mode="json")
    assert {"kl_in", "selection", "correction"}.isdisjoint(written["algorithm"])
    assert {"epochs", "mini_batches"}.isdisjoint(written["train"])
    changed = parse(VALUES, ["--train.epochs", "2", "--algorithm.correction", "veto"])
    assert changed.model_dump(mode="json")["train"]["epochs"] == 2
    assert parse(changed.model_dump(mode="json")) == changed


def test_the_plan_says_what_a_reference_takes() -> None:
    assert plan(parse(VALUES))["memory_gb"]["reference_model"] is None
    assert plan(parse(VALUES, ["--algorithm.preset", "grpo"]))["memory_gb"]["reference_model"] is not None

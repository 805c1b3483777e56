"""Reward models: tiny classifiers made from a config, saved, and loaded as anyone's would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

import covey
from covey.audit.verify import verify
from covey.models.tiny import characters
from covey.records import RunReader
from covey.rewards.reward_model import RewardModel
from covey.types import Completion, CoveyError, Episode, Problem, StopReason, Turn

PROBLEM = Problem("p", ({"role": "user", "content": "2+2="},), "4")


def group(*texts: str) -> list[Episode]:
    return [
        Episode(PROBLEM, i, (Turn((1,), Completion((5,), None, StopReason.END, 0, text)),))
        for i, text in enumerate(texts)
    ]


def saved(folder: Path, labels: int = 1, classifier: bool = True) -> str:
    tokenizer = characters()
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        num_labels=labels,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_score_is_the_classifiers_logit(tmp_path: Path) -> None:
    reward = RewardModel(saved(tmp_path))
    found = [score.value for score in reward(group("4", "five, I think", "4"))]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    for text, value in zip(("4", "five, I think"), found, strict=False):
        messages = [*PROBLEM.messages, {"role": "assistant", "content": text}]
        ids = characters().apply_chat_template(messages, tokenize=True, return_dict=False)
        with torch.inference_mode():
            assert value == pytest.approx(model(torch.tensor([ids])).logits.item(), abs=1e-6)
    assert found[0] == found[2] != found[1]


def test_the_batch_does_not_matter_beyond_rounding(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    texts = ["4", "it is 4", "", "4" * 20]
    alone = [s.value for s in RewardModel(folder, batch=1)(group(*texts))]
    together = [s.value for s in RewardModel(folder, batch=8)(group(*texts))]
    assert together == pytest.approx(alone, abs=1e-6)
    assert RewardModel(folder)(group(*texts)) == RewardModel(folder)(group(*texts))  # to the bit


def test_one_of_several_labels_is_a_probability(tmp_path: Path) -> None:
    folder = saved(tmp_path, labels=2)
    with pytest.raises(CoveyError, match="several outputs: name one as label: LABEL_0, LABEL_1"):
        RewardModel(folder)
    with pytest.raises(CoveyError, match="no label 'good'; there are: LABEL_0, LABEL_1"):
        RewardModel(folder, label="good")
    (one,) = RewardModel(folder, label="LABEL_0")(group("4"))
    (other,) = RewardModel(folder, label="LABEL_1")(group("4"))
    assert one.value is not None
    assert other.value is not None
    assert one.value + other.value == pytest.approx(1.0)


def test_what_is_too_long_is_not_scored(tmp_path: Path) -> None:
    short, long = RewardModel(saved(tmp_path))(group("4", "4" * 100))
    assert short.value is not None
    assert long.value is None
    assert "tokens are more than the reward model's 64" in str(long.error)


def test_a_value_that_is_no_number_is_not_scored(tmp_path: Path) -> None:
    reward = RewardModel(saved(tmp_path))
    with torch.no_grad():
        reward.model.score.weight.fill_(float("nan"))
    (score,) = reward(group("4"))
    assert score.error == "the reward model returned nan"


@pytest.mark.filterwarnings("ignore")  # transformers says so too, and goes on with random weights
def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=r"no weights for score.weight, which would be random"):
        RewardModel(saved(tmp_path, classifier=False))


def test_what_is_not_there_is_not_downloaded(tmp_path: Path) -> None:
    for name in (str(tmp_path), "nobody/nothing"):
        with pytest.raises(CoveyError, match="can't load the reward model"):
            RewardModel(name)
    with pytest.raises(CoveyError, match="batch is 1 or more"):
        RewardModel("x", batch=0)


def test_a_run_records_which_reward_model_graded_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "grader")
    part = {"name": "reward_model", "model": folder, "weight": 0.5}
    covey.train(
        model={"config": {"hidden_size": 16}, "dtype": "float32"},
        task={"name": "arithmetic", "low": 0, "high": 9, "prompt": "{a}{op}{b}="},
        reward={"name": "combine", "parts": [{"name": "number", "weight": 0.1}, part]},
        run=tmp_path / "run",
        steps=1,
        rollout={"problems_per_step": 2, "group_size": 2, "max_new_tokens": 4},
        eval={"problems": 2, "samples": 1},
        view="quiet",
    )
    (digest,) = RunReader(tmp_path / "run").manifest()["reward_models"].values()
    assert len(digest) == 64
    # its scores, too, are computed again
    assert [c.detail for c in verify(tmp_path / "run").checks if c.differences] == []
    config = tmp_path / "grader" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert [c.name for c in verify(tmp_path / "run").checks if c.differences] == ["model"]

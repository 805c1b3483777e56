"""A whole run in ten lines: a tiny model made from its config, an own reward, a record that verifies."""

from __future__ import annotations

import sys

import covey


def reward(completions, answer, **columns):
    return [float(a in c[0]["content"]) for c, a in zip(completions, answer, strict=True)]


if __name__ == "__main__":
    result = covey.train(
        model={"config": {"family": "llama", "hidden_size": 64}},
        task={"name": "arithmetic", "low": 0, "high": 4, "prompt": "{a}{op}{b}="},
        reward=reward,
        run=sys.argv[1] if len(sys.argv) > 1 else "runs/ten-lines",
        steps=3,
        rollout={"problems_per_step": 4, "max_new_tokens": 8},
        train={"learning_rate": 3e-3},
        view="quiet",
    )
    print(result.run, result.summary["train_seconds"])

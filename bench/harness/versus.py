"""Covey's and TRL's side of one and the same training."""

from __future__ import annotations

from typing import Any

from harness.environments import TRL
from harness.workers import ROOT, Worker

ALGORITHM = {
    # TRL 1.16.0's own loss; the correction in it is for vLLM, which is not used here
    "preset": "trl-1.16",
    "correction": [{"name": "none"}],
}
MODES = {
    "default": "trl 1.16.0 as it comes: fp32 weights, bf16 autocast",
    "best": "trl 1.16.0 at its fastest: weights in the dtype that the processor multiplies faster",
    "fp32": "trl 1.16.0, fp32 weights without autocast",
}


def recipe(folder: str, given: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A Covey recipe for what `trl` does with the same ``given``."""
    named = given["reward"]
    return {
        "steps": 10_000,
        "seed": given["seed"],
        "model": {"name": folder, "dtype": given["dtype"]},
        "task": {"name": "arithmetic", "operations": ["+"], "low": 10, "high": 99},
        "reward": "number" if named == "number" else f"{ROOT / 'bench' / 'harness' / 'rewards.py'}:{named}",
        "algorithm": ALGORITHM,
        "rollout": {
            "problems_per_step": given["problems_per_step"],
            "group_size": given["group_size"],
            "max_new_tokens": given["max_new_tokens"],
            "refills": 0,
        },
        "train": {"learning_rate": given["learning_rate"]},
        "eval": {"problems": 1, "samples": 1},
        "checkpoint": {"every": 0},
        **sections,
    }


def trl(folder: str, mode: str, rows: list[dict[str, Any]], given: dict[str, Any], threads: int) -> Worker:
    settings = {"model": folder, "mode": mode, "rows": rows, **given}
    return Worker(
        "trl_step", settings, threads=threads, python=TRL.made(), environment={"HF_HUB_OFFLINE": "1"}
    )

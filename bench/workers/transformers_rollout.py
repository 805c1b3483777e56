"""Worker: `generate` of `transformers`, with its dynamic cache, its best mode on a CPU.

It pads prompts on the left and goes on until the longest reply is complete; a reply's tokens beyond the
length that was asked for are thrown away. Log-probabilities are not asked for, which is faster still.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from harness.channel import Channel, forget_peak, peak_gb, serve, settings, versions

if __name__ == "__main__":
    channel = Channel()
    given = settings()
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=getattr(torch, given["dtype"])).eval()
    model.generation_config.eos_token_id = None  # lengths are forced

    def rollout(groups: list[dict[str, Any]]) -> dict[str, Any]:
        prompts = [g["prompt_ids"] for g in groups for _ in g["lengths"]]
        lengths = [length for g in groups for length in g["lengths"]]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        forget_peak()
        began = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(lengths),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                pad_token_id=0,
            )
        seconds = time.perf_counter() - began
        assert out.shape == (len(prompts), width + max(lengths))
        return {"seconds": seconds, "tokens": sum(lengths), "peak_gb": peak_gb()}

    channel.send(versions=versions("torch", "transformers"))
    serve(channel, {"rollout": rollout})

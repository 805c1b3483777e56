"""Worker: TRL's GRPO trainer in its own environment, one optimizer step at a time.

It waits before each step, so that another system can have its turn. Settings: ``mode`` (see `MODES`),
``rows`` in the order they are to be drawn, ``reward`` (of `harness.rewards`), ``group_size``,
``max_new_tokens``, ``learning_rate``, ``seed``, and ``problems_per_step``: two problems a forward pass, as
many passes as that takes in one optimizer step, one generation for all of them, which is TRL's default.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from harness import rewards
from harness.channel import Channel, forget_peak, peak_gb, settings, versions

MODES: dict[str, dict[str, Any]] = {
    # as it comes: fp32 weights under bf16 autocast, gradient checkpointing on
    "default": {},
    # the fastest found: no autocast, weights in the dtype asked for, gradient checkpointing on
    "best": {"bf16": False},
    # fp32 weights and products: the fastest that keeps fp32 weights where bf16 products are no faster
    "fp32": {"bf16": False},
}


class Sampled:
    """The reward asked for, which keeps what it was last given."""

    def __init__(self, name: str) -> None:
        self.__name__ = name  # TRL reports by it
        self.function = getattr(rewards, name)
        self.tokens, self.rewards = 0, []

    def __call__(
        self, completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        self.rewards = self.function(completions, **columns)
        self.tokens = sum(map(len, completion_ids))
        return self.rewards


def main() -> None:
    channel, given = Channel(), settings()
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    sampled = Sampled(given["reward"])
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")

    @torch.no_grad()
    def evaluate(model: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Greedy answers to held-out problems: 1 or 0 for each."""
        training = model.training
        model.eval()
        right: list[float] = []
        for at in range(0, len(rows), 64):
            part = rows[at : at + 64]
            ids = tokenizer.pad({"input_ids": [r["prompt_ids"] for r in part]}, return_tensors="pt")
            out = model.generate(**ids, max_new_tokens=given["max_new_tokens"], do_sample=False)
            texts = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1] :], skip_special_tokens=True)
            replies = [[{"content": text}] for text in texts]
            right += rewards.number(replies, [row["answer"] for row in part])
        model.train(training)
        return {"right": right}

    class Gate(TrainerCallback):
        def __init__(self) -> None:
            self.began: float | None = None

        def on_step_begin(self, *_: Any, **parts: Any) -> None:
            if self.began is None:
                channel.send(versions=versions("torch", "transformers", "trl"))
            while (request := channel.receive())["call"] == "evaluate":
                channel.send(**evaluate(parts["model"], request["rows"]))
            forget_peak()
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            assert self.began is not None
            seconds = time.perf_counter() - self.began
            reward = sum(sampled.rewards) / len(sampled.rewards)
            channel.send(seconds=seconds, tokens=sampled.tokens, reward=reward, peak_gb=peak_gb())

    mode = dict(MODES[given["mode"]])
    if given["mode"] == "best":
        mode["model_init_kwargs"] = {"dtype": given["dtype"]}
    passes = given["problems_per_step"] // 2 or 1
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            shuffle_dataset=False,
            seed=given["seed"],
            max_steps=len(given["rows"]) // given["problems_per_step"],
            per_device_train_batch_size=given["problems_per_step"] * given["group_size"] // passes,
            gradient_accumulation_steps=passes,
            num_generations=given["group_size"],
            max_completion_length=given["max_new_tokens"],
            learning_rate=given["learning_rate"],
            lr_scheduler_type="constant",
            **mode,
        )
        rows = [{"prompt": r["messages"], "answer": r["answer"]} for r in given["rows"]]
        GRPOTrainer(
            model=given["model"],
            reward_funcs=sampled,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Gate()],
        ).train()


if __name__ == "__main__":
    main()

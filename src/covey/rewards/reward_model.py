"""A reward model: a sequence classifier in `transformers`' format, read from a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from covey.types import CoveyError, Episode, Score


class RewardModel:
    """The logit of a classifier with one output, or the probability of one of several labels.

    It reads the conversation through its own chat template, or without one the messages and the reply as a
    pair of texts. ``model`` is a folder, or a hub id that is in the cache already (``hf download ID``);
    weights are safetensors, and no code of the folder's is run. ``label`` names the output when there are
    several. ``batch`` replies go through at once. A reply that is longer than the model can read is not
    scored.

    Raises:
        CoveyError: it can't be loaded, lacks weights, or has several outputs and none is named.
    """

    def __init__(
        self, model: str, label: str | None = None, batch: int = 8, device: str | None = None
    ) -> None:
        if batch < 1:
            raise CoveyError(f"batch is 1 or more, not {batch}")
        self.name, self.batch = model, batch
        self.model, self.tokenizer = _load(model, device)
        self.output = self._output(label)

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        rows = [self._tokens(episode) for episode in episodes]
        most = getattr(self.model.config, "max_position_embeddings", None) or math.inf
        scores: dict[int, Score] = {
            i: Score(None, error=f"{len(row)} tokens are more than the reward model's {most}")
            for i, row in enumerate(rows)
            if len(row) > most
        }
        left = [i for i in range(len(rows)) if i not in scores]
        size = self.batch if self.tokenizer.pad_token_id is not None else 1
        for start in range(0, len(left), size):
            chosen = left[start : start + size]
            scores |= dict(zip(chosen, self._values([rows[i] for i in chosen]), strict=True))
        return [scores[i] for i in range(len(rows))]

    def _tokens(self, episode: Episode) -> list[int]:
        messages = [dict(message) for message in episode.problem.messages]
        if self.tokenizer.chat_template:
            whole = [*messages, {"role": "assistant", "content": episode.text}]
            return list(self.tokenizer.apply_chat_template(whole, tokenize=True, return_dict=False))
        asked = "\n\n".join(str(message["content"]) for message in messages)
        return list(self.tokenizer(asked, episode.text)["input_ids"])

    def _values(self, rows: Sequence[Sequence[int]]) -> list[Score]:
        import torch

        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            device = self.model.device
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.float()
        several = logits.shape[-1] > 1
        values = (logits.softmax(-1) if several else logits)[:, self.output].tolist()
        return [
            Score(v) if math.isfinite(v) else Score(None, error=f"the reward model returned {v}")
            for v in values
        ]

    def _output(self, label: str | None) -> int:
        labels: dict[int, str] = self.model.config.id2label
        if label is None:
            if len(labels) > 1:
                raise CoveyError(
                    f"{self.name} has several outputs: name one as label: {', '.join(labels.values())}"
                )
            return 0
        found = [index for index, name in labels.items() if name == label]
        if not found:
            raise CoveyError(f"{self.name} has no label {label!r}; there are: {', '.join(labels.values())}")
        return int(found[0])


def _load(name: str, device: str | None) -> tuple[Any, Any]:
    """(model, tokenizer), in fp32 and with every weight from its files."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # whatever transformers raises about a folder: it is no reward model here
        reason = str(error).strip().partition("\n")[0]
        raise CoveyError(f"can't load the reward model {name!r}: {type(error).__name__}: {reason}") from error
    if missing := sorted(info["missing_keys"]):
        raise CoveyError(
            f"{name} is no trained reward model: it has no weights for {', '.join(missing[:3])}, "
            "which would be random"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # it is how the last real token is found
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(chosen).eval(), tokenizer

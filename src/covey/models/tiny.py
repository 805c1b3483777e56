"""A small model made from a few numbers: no download, seconds to train. For tests and newcomers."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from covey.types import CoveyError

DEFAULTS: dict[str, Any] = {
    "family": "llama",
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "intermediate_size": 128,
    "context": 512,
    "tie_embeddings": True,
    "seed": 0,
}
END, START = "<|end|>", "<|start|>"
_TEMPLATE = (
    "{% for m in messages %}{{ '" + START + "' + m['role'] + ':' + m['content'] + '" + END + "' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + START + "assistant:' }}{% endif %}"
)


def make(description: Mapping[str, Any]) -> tuple[Any, PreTrainedTokenizerFast]:
    """(model, tokenizer) with random weights drawn from ``seed``; see `DEFAULTS` for the keys.

    ``family`` is any causal language model type `transformers` knows (llama, qwen2, qwen3,
    mistral, gemma, gpt2, …). Raises CoveyError for an unknown key or family.
    """
    unknown = sorted(set(description) - set(DEFAULTS))
    if unknown:
        raise CoveyError(f"[model.config] has no key {unknown[0]!r}; it knows: {', '.join(DEFAULTS)}")
    wanted = DEFAULTS | dict(description)
    tokenizer = characters()
    try:
        config = AutoConfig.for_model(wanted["family"], **_names(wanted, tokenizer))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(wanted["seed"])
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (AttributeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise CoveyError(
            f"[model.config] can't make a small {wanted['family']!r} model: {first}. Take llama, qwen2, "
            "qwen3, mistral, gemma, gpt2 or another causal language model that transformers knows"
        ) from error
    return model, tokenizer


def characters() -> PreTrainedTokenizerFast:
    """A tokenizer of printable ASCII characters, one token each; anything else is ``<|unknown|>``."""
    words = ["<|unknown|>", END, START, *string.printable.strip(), " ", "\n"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=words[0]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")  # one character each
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=words[0], eos_token=END, bos_token=START, pad_token=END,
        chat_template=_TEMPLATE, additional_special_tokens=[START],
    )  # fmt: skip


def _names(wanted: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Our words to `transformers`' config names; GPT-2 has names of its own."""
    names = {
        "vocab_size": len(tokenizer),
        "hidden_size": wanted["hidden_size"],
        "num_hidden_layers": wanted["layers"],
        "num_attention_heads": wanted["heads"],
        "num_key_value_heads": wanted["kv_heads"],
        "head_dim": wanted["hidden_size"] // wanted["heads"],
        "intermediate_size": wanted["intermediate_size"],
        "max_position_embeddings": wanted["context"],
        "tie_word_embeddings": wanted["tie_embeddings"],
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if wanted["family"] == "gpt2":
        for name in ("num_key_value_heads", "head_dim", "intermediate_size"):
            del names[name]
        names["n_inner"] = wanted["intermediate_size"]
    return names

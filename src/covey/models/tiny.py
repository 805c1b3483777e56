"""A small model made from a few numbers: no download, seconds to train. For tests and newcomers."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

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
    "{% for m in messages %}{{ '"
    + START
    + "' + m['role'] + ':' + m['content'] + '"
    + END
    + "' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + START + "assistant:' }}{% endif %}"
)


def make(description: Mapping[str, Any]) -> tuple[Any, PreTrainedTokenizerFast]:
    """(model, tokenizer) with random weights drawn from ``seed``; see `DEFAULTS` for the keys.

    ``family`` is any causal language model type `transformers` knows (llama, qwen2, qwen3,
    mistral, gemma, gpt2, …). Raises CoveyError for an unknown key or family, and for sizes that the
    family doesn't allow.
    """
    wanted = _checked(description)
    tokenizer = characters()
    try:
        config = AutoConfig.for_model(wanted["family"], **_names(wanted, tokenizer))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(wanted["seed"])
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except Exception as error:  # each family checks its sizes in a way of its own
        reason = str(error).strip().splitlines()[-1].strip()
        raise CoveyError(f"[model.config] can't make a small {wanted['family']!r} model: {reason}") from error
    return model, tokenizer


def _checked(description: Mapping[str, Any]) -> dict[str, Any]:
    for key in description:
        if key not in DEFAULTS:
            hint = _hint(key, DEFAULTS, f"it knows: {', '.join(DEFAULTS)}")
            raise CoveyError(f"[model.config] has no key {key!r}; {hint}")
    wanted = DEFAULTS | dict(description)
    for key, value in wanted.items():
        if type(value) is not type(DEFAULTS[key]) or (type(value) is int and value < (key != "seed")):
            what = {int: "a whole number above 0", bool: "true or false", str: "a name"}[type(DEFAULTS[key])]
            raise CoveyError(f"[model.config] {key} must be {what}, not {value!r}")
    family = wanted["family"]
    if family not in FAMILIES:
        raise CoveyError(
            f"[model.config] transformers has no causal language model of family {family!r}; "
            + _hint(family, FAMILIES, "take llama, qwen2, qwen3, mistral, gemma, gpt2 or the like")
        )
    return wanted


def _hint(name: str, known: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


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

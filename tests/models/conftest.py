"""Small random models of many families, each made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from covey.models import Policy, load_policy
from covey.models.tiny import make

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "layers": 2, "context": 512}

EXTRA: dict[str, dict[str, Any]] = {
    "mistral-window": {"sliding_window": 5},
    "gemma3_text-window": {
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
"""What `tiny.make` has no word for: a name is a family, with these settings where it has a suffix."""

Build = Callable[..., Policy]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build("gemma3_text-window")``: a policy, its weights large enough to have opinions."""
    made: dict[tuple[str, bool, str], Policy] = {}

    def policy_of(name: str, tied: bool = False, dtype: str = "float32") -> Policy:
        if (name, tied, dtype) not in made:
            family = name.partition("-")[0]
            model, tokenizer = make({"family": family, "tie_embeddings": tied, **SHAPE})
            config = model.config
            for key, value in EXTRA.get(name, {}).items():
                assert hasattr(config, key)
                setattr(config, key, value)
            with torch.random.fork_rng():
                torch.manual_seed(1)
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() == 2:
                        parameter.mul_(5)
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[name, tied, dtype] = load_policy(str(folder), dtype=dtype)
        return made[name, tied, dtype]

    return policy_of

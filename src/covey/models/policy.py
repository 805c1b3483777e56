"""The policy: one model that the engine samples from and the learner trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from covey.models.chat import ChatFormat
from covey.models.dense import dense_of
from covey.models.tree import Tree


class Policy:
    """A causal language model with its tokenizer, in the dtype it computes in.

    Engine and learner run this very module, so there is no copy whose weights could fall
    behind. Where it computes in bf16, `master` holds the fp32 weights the optimizer moves and
    `refresh` rounds them into the module; in fp32 both are the same tensors.

    ``version`` counts optimizer steps.
    """

    def __init__(self, module: Any, tokenizer: Any, chat: ChatFormat, master: dict[str, Tensor]) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.chat = chat
        self.master = master
        self.version = 0
        self.end_ids = frozenset(end_ids(module, tokenizer))
        self.tied = tied_names(module)
        self.dense = dense_of(module)
        self.before_pass: list[Callable[[], None]] = []
        """Called before each pass through the model."""

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.dtype

    @property
    def vocabulary(self) -> int:
        """Rows of the output head: ids at or above the tokenizer's length can be sampled too."""
        return self.head.weight.shape[0]

    @property
    def context(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        return int(getattr(self.module.config, "max_position_embeddings", 1 << 30))

    @property
    def head(self) -> nn.Linear:
        return self.module.get_output_embeddings()

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(name, parameter) of the module, tied parameters once."""
        return self.module.named_parameters()

    def hidden(self, token_ids: Tensor, layout: Any, positions: Tensor) -> Tensor:
        """Last hidden states ``[T, width]`` of packed tokens ``[T]`` under a layout."""
        for call in self.before_pass:
            call()
        if self.dense is not None and self.dense.ready:
            return self.dense.hidden(token_ids, layout, positions)
        body = self.module.base_model
        output = body(input_ids=token_ids[None], position_ids=positions[None], use_cache=False, layout=layout)
        return output.last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits ``[T, vocabulary]`` of hidden states, with the model's own scaling."""
        return shape_logits(self.raw_logits(hidden).float(), self.module.config)

    def raw_logits(self, hidden: Tensor) -> Tensor:
        """What the output head gives ``[T, vocabulary]``, in the dtype of computation and unscaled."""
        packed = self.dense.packed() if self.dense is not None and self.dense.ready else None
        return packed.head(hidden) if packed is not None else self.head(hidden)

    def drawable(self, hidden: Tensor) -> Tensor:
        """Logits ``[T, vocabulary]`` to draw from: as the head gives them where nothing comes behind it, so
        that they need not be widened, else fp32."""
        return self.raw_logits(hidden) if self.plain_head else self.logits(hidden)

    @property
    def plain_head(self) -> bool:
        """Whether the head's output are the logits; see `shape_logits`."""
        config = self.module.config
        return not any(getattr(config, name, None) for name in _SHAPING)

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the master weights into the module after an optimizer step."""
        for name, parameter in self.parameters():
            if parameter is not self.master[name]:
                parameter.copy_(self.master[name])
        self.version += 1

    @torch.no_grad()
    def copy_from(self, other: Policy) -> None:
        """Take over another's master weights, and with them what is computed with."""
        for name, master in self.master.items():
            master.copy_(other.master[name])
        self.refresh()
        self.version = other.version

    def tree(self, prompts: list[int], replies: list[list[int]], keep: Any = None, stem: int = 0) -> Tree:
        """A `Tree` on the policy's device."""
        return Tree(prompts, replies, self.device, keep, stem)


def tied_names(module: Any) -> dict[str, str]:
    """Further names of tied parameters → the name that `Policy.parameters` has them under."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if first[id(p)] != name}


_SHAPING = ("logit_scale", "logits_scaling", "final_logit_softcapping")


def shape_logits(logits: Tensor, config: Any) -> Tensor:
    """Scale and soft cap that some families put behind their output head (Gemma 2, Cohere, Granite)."""
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return logits


def end_ids(module: Any, tokenizer: Any) -> set[int]:
    """Every id that ends a reply: the tokenizer's, and those of the model's generation config.

    Instruct models often end a turn with another token than the one their base was trained with;
    the generation config lists both.
    """
    ids: set[int] = set()
    configured = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    for value in (tokenizer.eos_token_id, configured):
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids.update(value)
    return ids

"""The layers of the common dense families (Llama, Mistral, Qwen 2 and 3), run on fused kernels.

The weights are the module's own; nothing is copied but, for sampling, the matrices in the layout that the
processor multiplies fastest. `check.verify_packing` holds the result against `transformers` at every
load, and tests do so for each family. Any other architecture, device or machine takes the module's own path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from covey import kernels
from covey.kernels.packed import Packed, available
from covey.kernels.stack import Layer, Stack, stacks
from covey.models import attention
from covey.models.attention import Layout
from covey.models.fused import AddNorm, GatedLinear, Linear, NormLinears, Rotate

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


def dense_of(module: Any) -> Dense | None:
    """The fused layers of a module that has just these, else None."""
    return Dense(module) if covered(module) and kernels.why_not() is None else None


def covered(module: Any) -> bool:
    """Whether a module's layers are those that are written out here."""
    config = module.config
    return getattr(config, "model_type", None) in FAMILIES and getattr(config, "hidden_act", None) == "silu"


class Dense:
    """The body of a model, embeddings to last norm, over any `Layout`."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.body = module.base_model
        self._packed: _Packed | None = None

    @property
    def ready(self) -> bool:
        """Whether the weights are where the kernels can read them."""
        return kernels.usable(self.body.embed_tokens.weight)

    def hidden(self, token_ids: Tensor, layout: Layout, positions: Tensor) -> Tensor:
        """Last hidden states ``[T, width]`` of packed tokens ``[T]``, as the module computes them."""
        x = self.body.embed_tokens(token_ids)
        cos, sin = (t[0].contiguous() for t in self.body.rotary_emb(x, positions[None]))
        if (packed := self.packed()) is None:
            return self._learn(x, cos, sin, layout)
        if packed.stack is not None and (cells := layout.cells) is not None:
            return packed.stack(x, cos, sin, cells)
        return self._infer(x, cos, sin, layout, packed)

    def packed(self) -> _Packed | None:
        """The matrices laid out for sampling, anew after every change of a weight; None where the module's
        own are used: while learning, when there is no room for a second copy, and where no library keeps a
        layout."""
        if torch.is_grad_enabled() or not available(self.body.embed_tokens.weight.dtype):
            self._packed = None
            return None
        if self._packed is None or not self._packed.current():
            self._packed = None  # freed first: two copies would be a peak of their own
            self._packed = _Packed(self.module)
        return self._packed

    def unpacked(self) -> Iterator[tuple[str, Tensor]]:
        """(parameter name, its values as sampling multiplies with them), of what is laid out for it."""
        if (packed := self.packed()) is not None:
            yield from packed.unpacked()

    def _learn(self, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        delta: Tensor | None = None
        for index, layer in enumerate(self.body.layers):
            attn, mlp = layer.self_attn, layer.mlp
            x, *qkv = _norm_linears(x, delta, layer.input_layernorm, attn.q_proj, attn.k_proj, attn.v_proj)
            q, k, v = (t.view(len(t), -1, attn.head_dim) for t in qkv)
            if hasattr(attn, "q_norm"):
                q, k = _head_norm(q, attn.q_norm), _head_norm(k, attn.k_norm)
            q, k = Rotate.apply(q, cos, sin), Rotate.apply(k, cos, sin)
            attended = layout.attend(index, q, k, v, _how(attn)).flatten(1)
            delta = Linear.apply(attended, attn.o_proj.weight, attn.o_proj.bias)
            x, gate, up = _norm_linears(x, delta, layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
            delta = GatedLinear.apply(gate, up, mlp.down_proj.weight, mlp.down_proj.bias)
        return _add_norm(x, delta, self.body.norm)[1]

    def _infer(self, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout, packed: _Packed) -> Tensor:
        delta: Tensor | None = None
        for index, (layer, mats) in enumerate(zip(self.body.layers, packed.layers, strict=True)):
            attn = layer.self_attn
            x, h = _add_norm(x, delta, layer.input_layernorm)
            heads = mats.qkv(h).view(len(h), -1, attn.head_dim)
            kv = attn.k_proj.out_features // attn.head_dim
            turning, v = heads.split([heads.shape[1] - kv, kv], 1)
            if hasattr(attn, "q_norm"):
                q, k = turning.split([turning.shape[1] - kv, kv], 1)
                turning = torch.cat([_head_norm(q, attn.q_norm), _head_norm(k, attn.k_norm)], 1)
            kernels.rotate(turning, cos, sin)
            q, k = turning.split([turning.shape[1] - kv, kv], 1)
            delta = mats.o(layout.attend(index, q, k, v, _how(attn)).flatten(1))
            x, h = _add_norm(x, delta, layer.post_attention_layernorm)
            both = mats.gate_up(h)
            half = both.shape[1] // 2
            delta = mats.down(kernels.gated(both[:, :half], both[:, half:]))
        return _add_norm(x, delta, self.body.norm)[1]


def _add_norm(x: Tensor, delta: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():
        return AddNorm.apply(x, delta, norm.weight, norm.variance_epsilon)
    return kernels.add_norm(x, delta, norm.weight, norm.variance_epsilon)[:2]


def _norm_linears(x: Tensor, delta: Tensor | None, norm: Any, *linears: nn.Linear) -> tuple[Tensor, ...]:
    layers = [part for linear in linears for part in (linear.weight, linear.bias)]
    return NormLinears.apply(x, delta, norm.weight, norm.variance_epsilon, *layers)


def _head_norm(x: Tensor, norm: Any) -> Tensor:
    return _add_norm(x.reshape(-1, x.shape[-1]), None, norm)[1].view(x.shape)


def _how(attn: Any) -> attention.How:
    window = getattr(attn, "sliding_window", None)
    if window is None and attn.config.model_type == "mistral":
        window = attn.config.sliding_window
    return attention.How(attn.scaling, None, window or 0)


class _Matrix:
    """Linear layers with one input, side by side, in the processor's own layout."""

    def __init__(self, *named: tuple[str, nn.Linear]) -> None:
        self.names = [f"{name}.weight" for name, _ in named]
        self.weights = [linear.weight.detach() for _, linear in named]
        biases = [x.bias.detach() for _, x in named if x.bias is not None]
        self.packed = Packed(self.weights, torch.cat(biases) if biases else None)

    def __call__(self, x: Tensor) -> Tensor:
        return self.packed(x)

    def unpacked(self) -> Iterator[tuple[str, Tensor]]:
        yield from zip(self.names, self.packed.unpacked(self.weights), strict=True)


@dataclass(frozen=True, slots=True)
class _Matrices:
    qkv: _Matrix
    o: _Matrix
    gate_up: _Matrix
    down: _Matrix


class _Packed:
    """Every matrix of a module as sampling uses it."""

    @torch.no_grad()
    def __init__(self, module: Any) -> None:
        names = {id(m): n for n, m in module.named_modules()}
        self._made_of: list[tuple[dict[str, Any], tuple[object, ...]]] = []
        self.layers: list[_Matrices] = []

        def matrix(*linears: nn.Linear) -> _Matrix:
            # not by attribute, which a module looks up in Python: this is asked at every step
            self._made_of += [(x._parameters, _state(x.weight)) for x in linears]
            return _Matrix(*((names[id(x)], x) for x in linears))

        for layer in module.base_model.layers:
            attn, mlp = layer.self_attn, layer.mlp
            self.layers.append(
                _Matrices(
                    matrix(attn.q_proj, attn.k_proj, attn.v_proj),
                    matrix(attn.o_proj),
                    matrix(mlp.gate_proj, mlp.up_proj),
                    matrix(mlp.down_proj),
                )
            )
        self.head = matrix(module.get_output_embeddings())
        self.stack = _stack(module.base_model, self.layers) if stacks(self.head.packed) else None

    def current(self) -> bool:
        """Whether the module's weights are still the tensors, and hold the values, that this was made of."""
        return all(_state(own["weight"]) == state for own, state in self._made_of)

    def unpacked(self) -> Iterator[tuple[str, Tensor]]:
        for mats in self.layers:
            for matrix in (mats.qkv, mats.o, mats.gate_up, mats.down):
                yield from matrix.unpacked()
        yield from self.head.unpacked()


def _stack(body: Any, matrices: list[_Matrices]) -> Stack:
    """The same layers for one call a decoding step."""

    def layer(module: Any, mats: _Matrices) -> Layer:
        attn, before, after = module.self_attn, module.input_layernorm, module.post_attention_layernorm
        how, q_norm, k_norm = _how(attn), getattr(attn, "q_norm", None), getattr(attn, "k_norm", None)
        return Layer(
            qkv=mats.qkv.packed,
            o=mats.o.packed,
            gate_up=mats.gate_up.packed,
            down=mats.down.packed,
            before=before.weight,
            after=after.weight,
            q_norm=None if q_norm is None else q_norm.weight,
            k_norm=None if k_norm is None else k_norm.weight,
            window=how.window,
            eps=before.variance_epsilon,
            scale=how.scale,
        )

    layers = [layer(*pair) for pair in zip(body.layers, matrices, strict=True)]
    size = body.layers[0].self_attn.head_dim
    return Stack(layers, (body.norm.weight, body.norm.variance_epsilon), size)


def _state(weight: Tensor) -> tuple[object, ...]:
    """Which tensor it is and how often it has changed; `Module.to` changes the type of the very parameter."""
    return id(weight), weight.data_ptr(), weight.dtype, weight._version

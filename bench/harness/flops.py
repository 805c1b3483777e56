"""Arithmetic of a Llama-like model: the FLOPs an update can't do without, and the ideal of a decode step.

Useful FLOPs of an update, counted once however often they are computed (a multiply-add is 2)::

    forward  = 2 · W · T  +  4 · layers · heads · head_dim · K  +  2 · vocabulary · width · C
    useful   = 3 · forward                                    (the backward pass is twice the forward)

    W  weights of all layers' matrices; the embedding is a lookup and costs none
    T  tokens that must go through the layers: the stem that all prompts share once, the rest of each
       prompt once for its whole group, and of each reply all but its last token, which predicts nothing
    K  keys that those tokens attend to, themselves included, summed
    C  chosen tokens, which alone need the output head

Recomputation, padding, copies, norms, softmax and the optimizer count nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    wide: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From a Hugging Face ``config.json``."""
        heads, width = config["num_attention_heads"], config["hidden_size"]
        return cls(
            layers=config["num_hidden_layers"],
            width=width,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or width // heads,
            wide=config["intermediate_size"],
            vocabulary=config["vocab_size"],
        )

    @property
    def matrices(self) -> dict[str, tuple[int, int, int]]:
        """name → (in, out, how many): as few and as large as a decode step can have them."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "qkv": (self.width, queries + 2 * keys, self.layers),
            "out": (queries, self.width, self.layers),
            "gate_up": (self.width, 2 * self.wide, self.layers),
            "down": (self.wide, self.width, self.layers),
            "head": (self.width, self.vocabulary, 1),
        }

    @property
    def weights(self) -> int:
        """W: without embedding and output head."""
        return sum(i * o * n for name, (i, o, n) in self.matrices.items() if name != "head")

    @property
    def kv_values(self) -> int:
        """How many numbers one token's keys and values are."""
        return self.layers * 2 * self.kv_heads * self.head_dim


def update_flops(shape: Shape, groups: Sequence[tuple[int, Sequence[int]]], stem: int = 0) -> int:
    """Useful FLOPs of an update on groups of (prompt's length, replies' lengths), see above."""
    tokens, keys, chosen = stem, _triangle(0, stem), 0
    for prompt, replies in groups:
        tokens += prompt - stem
        keys += _triangle(stem, prompt)
        for reply in replies:
            tokens += reply - 1
            keys += _triangle(prompt, prompt + reply - 1)
            chosen += reply
    forward = (
        2 * shape.weights * tokens
        + 4 * shape.layers * shape.heads * shape.head_dim * keys
        + 2 * shape.vocabulary * shape.width * chosen
    )
    return 3 * forward


def _triangle(start: int, end: int) -> int:
    """Keys seen by the tokens at positions start to end - 1: each sees itself and all before it."""
    return (end * (end + 1) - start * (start + 1)) // 2


def decode_seconds(
    shape: Shape, rates: Mapping[str, float], bandwidth: float, batch: int, length: float, size: int
) -> float:
    """The ideal time of one decode step: its matrix products at the rates measured for exactly these, and
    the keys and values read once at the memory's bandwidth; nothing overlaps.

    rates: FLOP/s by name of `Shape.matrices`, measured at ``batch`` rows. bandwidth: bytes/s. length:
    mean tokens of context over sequences and steps. size: bytes of a number.
    """
    products = sum(2 * batch * i * o * n / rates[name] for name, (i, o, n) in shape.matrices.items())
    return products + batch * length * shape.kv_values * size / bandwidth

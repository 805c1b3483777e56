"""Worker: small models with a vocabulary of any size, as folders. Settings: none."""

from __future__ import annotations

from typing import Any

from covey.models import tiny
from harness.channel import Channel, serve, versions
from harness.environments import cache

SMALL = {
    "hidden_size": 256,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "intermediate_size": 768,
    "context": 2048,
}


def make(vocabulary: int) -> dict[str, Any]:
    """A model with ``vocabulary`` words, most of which its tokenizer of characters never uses."""
    folder = cache() / "models" / f"small-{vocabulary}"
    if not (folder / "complete").exists():
        model, tokenizer = tiny.make(SMALL)
        model.resize_token_embeddings(vocabulary)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "complete").touch()
    return {"folder": str(folder)}


if __name__ == "__main__":
    channel = Channel()
    channel.send(versions=versions("torch", "transformers"))
    serve(channel, {"make": make})

"""What every test stands on: no network, checked tensor shapes, and skips that say why."""

from __future__ import annotations

import os
from importlib.util import find_spec

import hypothesis
import jaxtyping
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for a hub fails at once, instead of hanging
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # no warning from a test that forks
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors this small are waited for longer than computed

# No deadline for one example: a busy machine isn't a failing test. Where CI is set, Hypothesis draws the
# same examples every time, and the profile builds on that one.
hypothesis.settings.register_profile("covey", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("covey")

# Before any room is imported: every call into these rooms checks its annotations, shapes included.
# tests/architecture/test_shapes.py shows that it bites.
jaxtyping.install_import_hook(["covey.algo", "covey.models", "covey.learn"], "beartype.beartype")


def _missing(marker: str) -> str | None:
    """What a test with this marker lacks on this machine, or None."""
    if marker == "gpu":
        import torch

        return None if torch.cuda.is_available() else "no CUDA device"
    return None if find_spec(marker) else f"{marker} is not installed"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("gpu", "vllm", "ray"):
        if item.get_closest_marker(marker) and (reason := _missing(marker)):
            pytest.skip(reason)

"""What a checkpoint holds of training, and that it comes back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from covey.learn import Optimizer, Schedule, checkpoint
from covey.models import Policy, load_policy
from covey.types import CoveyError


def policy(dtype: str = "float32", hidden_size: int = 32) -> Policy:
    return load_policy({"family": "llama", "hidden_size": hidden_size, "layers": 1}, dtype=dtype)


def stepped(model: Policy, steps: int) -> Optimizer:
    """An optimizer that has taken ``steps`` steps with gradients from a fixed seed."""
    optimizer = Optimizer(model, Schedule(1e-2))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for master in model.master.values():
            master.grad = torch.randn(master.shape, generator=generator)
        optimizer.step(step, optimizer.norm())
    return optimizer


def save(folder: Path, model: Policy, optimizer: Optimizer) -> Path:
    folder.mkdir()
    for name, pieces in checkpoint.contents(model, optimizer).items():
        (folder / name).write_bytes(b"".join(pieces))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_fresh_model_continues_like_the_one_saved(tmp_path: Path, dtype: str, steps: int) -> None:
    model = policy(dtype)
    optimizer = stepped(model, steps)
    folder = save(tmp_path / "saved", model, optimizer)
    fresh = policy(dtype)
    continued = Optimizer(fresh, Schedule(1e-2))
    checkpoint.restore(folder, fresh, continued, steps)

    assert fresh.version == steps
    for gradient in (0.5, -0.25):
        for one, own in ((model, optimizer), (fresh, continued)):
            for master in one.master.values():
                master.grad = torch.full_like(master, gradient)
            own.step(steps, own.norm())
    assert checkpoint.fingerprints(fresh, continued) == checkpoint.fingerprints(model, optimizer)
    for name, parameter in fresh.parameters():
        assert torch.equal(parameter, dict(model.parameters())[name])


def test_the_optimizer_is_part_of_what_continues(tmp_path: Path) -> None:
    """With fresh moments the next step would be another: this test can fail."""
    model = policy()
    optimizer = stepped(model, 3)
    folder = save(tmp_path / "saved", model, optimizer)
    fresh = policy()
    amnesic = Optimizer(fresh, Schedule(1e-2))
    checkpoint.restore(folder, fresh, Optimizer(fresh, Schedule(1e-2)), 3)
    for one, own in ((model, optimizer), (fresh, amnesic)):
        for master in one.master.values():
            master.grad = torch.full_like(master, 0.5)
        own.step(3, own.norm())

    assert checkpoint.fingerprints(fresh, amnesic) != checkpoint.fingerprints(model, optimizer)


def test_the_files_are_safetensors(tmp_path: Path) -> None:
    model = policy("bfloat16")
    folder = save(tmp_path / "saved", model, stepped(model, 1))

    loaded = safetensors.torch.load_file(folder / "weights.safetensors")
    assert loaded.keys() == model.master.keys()
    assert all(torch.equal(loaded[name], master) for name, master in model.master.items())
    moments = safetensors.torch.load_file(folder / "optimizer.safetensors")
    assert len(moments) == 3 * len(model.master)  # exp_avg, exp_avg_sq, step
    assert moments["model.norm.weight.step"] == 1


@given(
    shapes=st.dictionaries(st.text("abé.", min_size=1), st.lists(st.integers(0, 3), max_size=3), max_size=4)
)
def test_any_shape_and_name_is_written_as_safetensors_reads_it(shapes: dict[str, list[int]]) -> None:
    held = {name: torch.randn(shape) for name, shape in shapes.items()}
    read = safetensors.torch.load(b"".join(checkpoint.safetensors(held)))

    assert read.keys() == held.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in held.items())


def test_only_float32_is_saved() -> None:
    with pytest.raises(ValueError, match=r"w is torch\.bfloat16: checkpoints hold float32"):
        list(checkpoint.safetensors({"w": torch.zeros(2, dtype=torch.bfloat16)}))


def test_another_models_checkpoint_is_refused_before_anything_changes(tmp_path: Path) -> None:
    other = policy(hidden_size=64)
    folder = save(tmp_path / "saved", other, stepped(other, 1))
    model = policy()
    optimizer = stepped(model, 2)
    before = checkpoint.fingerprints(model, optimizer)

    with pytest.raises(
        CoveyError, match=r"of another model: model\.embed_tokens\.weight is \[\d+, 64\] there"
    ):
        checkpoint.restore(folder, model, optimizer, 1)
    assert checkpoint.fingerprints(model, optimizer) == before

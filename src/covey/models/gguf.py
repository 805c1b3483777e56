"""GGUF weights, converted to a Hugging Face folder once.

`transformers` takes ten seconds and more to de-quantize a small GGUF file and rebuild its
tokenizer, at every start. The result is plain fp32 weights, so it is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

_LAYOUT = 1  # counts up when what is kept changes


def folder_of(file: Path) -> Path:
    """The kept folder of a GGUF file, made now if need be.

    It lies in the user's cache (``COVEY_CACHE``, else ``XDG_CACHE_HOME``, else ``~/.cache``) and may
    be deleted at any time. Its name holds the file's path, size and time of change and the version
    of `transformers`, so that a changed file is converted anew. Raises OSError when the cache can't be
    written.
    """
    kept = _cache() / _key(file)
    if (kept / "config.json").exists():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    # made aside and renamed whole: a run beside this one sees all of it or nothing
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=kept.parent))
    try:
        model, tokenizer = read(file)
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        with contextlib.suppress(OSError):  # another run was quicker: its folder is as good
            scratch.rename(kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return kept


def read(file: Path) -> tuple[Any, Any]:
    """(model in fp32, tokenizer) of a GGUF file."""
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    # the weights are plain fp32 now; the marker alone would make save_pretrained refuse
    for holder in (model.config, model):
        for attribute in ("quantization_config", "hf_quantizer"):
            with contextlib.suppress(AttributeError):
                delattr(holder, attribute)
    setattr(model, "is_quantized", False)  # noqa: B010 - a module's __setattr__ is typed for tensors
    return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def _cache() -> Path:
    if chosen := os.environ.get("COVEY_CACHE"):
        return Path(chosen) / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covey" / "models"


def _key(file: Path) -> str:
    state = file.stat()
    facts = (str(file.resolve()), state.st_size, state.st_mtime_ns, transformers.__version__, _LAYOUT)
    return f"{file.stem}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"

"""Golden vectors: is the loss the published one, value and gradient, row by row?

Reads any file in the schema of the golden vectors that Covey's own suite is held to: ``case_…``
tables of inputs, with the advantages, losses, gradients, corrections and micro-batch sums that the
equations give for them, and ``misc`` rows. Every row of a file becomes a `Row`; one that Covey
doesn't know is a row that fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from covey.algo import Algorithm, Choice
from covey.algo.diagnostics import reference_metrics
from covey.audit.golden_case import Case, read_case
from covey.audit.golden_losses import correction_rows, loss_rows
from covey.audit.golden_misc import misc_entropy, misc_section
from covey.audit.golden_names import advantage_choice
from covey.audit.golden_rows import Results, Row, Sum, broken, compared, section_rows, unknown
from covey.audit.golden_steps import micro_batch_rows
from covey.types import CoveyError

__all__ = ["TOLERANCE", "Row", "check_file"]

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
"""The largest relative error of a row that conforms, by dtype."""


def check_file(path: str | Path, dtype: torch.dtype = torch.float64) -> list[Row]:
    """Every row of a golden-vector file, computed in ``dtype`` (float64 or float32).

    A row that can't be evaluated is one that fails, with its `Row.problem`; the others are evaluated
    all the same. Raises CoveyError for a file that isn't one of golden vectors.
    """
    if dtype not in TOLERANCE:
        raise CoveyError(f"golden vectors are checked in float64 or float32, not in {dtype}")
    content = _load(Path(path))
    return [row for name, section in content.items() for row in _top(name, section, dtype)]


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CoveyError(f"{path}: can't be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise CoveyError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise CoveyError(f"{path}: not UTF-8 text: {error.reason}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists without end
        raise CoveyError(f"{path}: can't be read: {error}") from None
    if not isinstance(content, dict) or not any(name.startswith("case") for name in content):
        raise CoveyError(f"{path}: not a file of golden vectors: it has no 'case_…' table")
    return content


def _top(name: str, section: Any, dtype: torch.dtype) -> Iterator[Row]:
    if name == "meta":
        return
    if not isinstance(section, Mapping):
        yield unknown(name, section)
    elif name == "misc":
        yield from _misc(section, dtype)
    elif "inputs" in section or name.startswith("case"):
        yield from _case(name, section, dtype)
    else:
        yield unknown(name, section)


def _case(name: str, section: Mapping[str, Any], dtype: torch.dtype) -> Iterator[Row]:
    try:
        case = read_case(name, section.get("inputs"), dtype)
    except CoveyError as error:
        yield broken(f"{name}.inputs", str(error))
        yield from (broken(f"{name}.{key}", f"needs {name}.inputs") for key in section if key != "inputs")
        return
    tolerance = TOLERANCE[dtype]
    parts = {"losses": loss_rows, "mismatch": correction_rows, "microbatch": micro_batch_rows}
    for key, part in section.items():
        row = f"{name}.{key}"
        if key == "inputs":
            continue
        if key != "zero_std_group_fraction" and not isinstance(part, Mapping):
            yield unknown(row, part)
            continue
        if key in parts:
            yield from parts[key](row, case, part, tolerance)
        elif key == "advantages":
            for one, value in part.items():
                computed = partial(_advantage, case, one)
                yield from section_rows(row, {one: value}, computed, tolerance=tolerance)
        elif key == "k_estimators_token_mean":
            yield from section_rows(row, part, lambda: _estimators(case), tolerance=tolerance)
        elif key == "zero_std_group_fraction":
            share = case.zero_variance().to(dtype).mean()  # groups are of one size
            yield compared(row, part, share, tolerance)
        else:
            yield unknown(row, part)


def _advantage(case: Case, name: str) -> Results:
    choice = advantage_choice(name)
    if choice is None:
        return {}
    return {name: case.advantages(Algorithm(choice, Choice("clip"), Choice("token_mean")))}


def _estimators(case: Case) -> Results:
    """k1, k2 and k3 as means over all tokens."""
    d = case.flat["logp_ref"] - case.flat["logp_new"]
    return {
        "k1": Sum(-d.mean(), d.abs().mean()),
        "k2": d.square().mean() / 2,
        "k3": Sum(reference_metrics(d)["kl_ref"], d.abs().mean()),
    }


def _misc(misc: Mapping[str, Any], dtype: torch.dtype) -> Iterator[Row]:
    tolerance = TOLERANCE[dtype]
    for name, section in misc.items():
        row = f"misc.{name}"
        if name == "entropy_of_old_logits_nats":
            only = {name: section}
            yield from section_rows(
                "misc", only, lambda name=name: {name: misc_entropy(misc, dtype)}, tolerance=tolerance
            )
        elif (found := misc_section(name)) is None:
            yield unknown(row, section)
        else:
            evaluate, numbers, inputs = found
            computed = partial(evaluate, section, dtype, *numbers)
            yield from section_rows(row, section, computed, tolerance=tolerance, inputs=inputs)

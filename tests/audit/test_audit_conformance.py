"""The committed golden vectors hold in full, and a file that is wrong is caught where it is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from covey.audit.conformance import check_file
from covey.cli.conformance import conformance
from covey.types import CoveyError

COMMITTED = Path(__file__).parents[1] / "algo" / "fixtures" / "grpo_fixtures.json"


def rewritten(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads(COMMITTED.read_text())
    change(content)
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_committed_row_holds(dtype: torch.dtype) -> None:
    rows = check_file(COMMITTED, dtype)
    assert [row.name for row in rows if not row.ok] == []
    assert len(rows) == 382


def test_rows_cover_the_file() -> None:
    """Each result of the file is a row: no part of it is passed over."""
    names = {row.name for row in check_file(COMMITTED)}
    content = json.loads(COMMITTED.read_text())
    for case in ("case_a", "case_b"):
        for name, loss in content[case]["losses"].items():
            assert {f"{case}.losses.{name}.{key}" for key in loss} <= names
        assert {f"{case}.advantages.{name}" for name in content[case]["advantages"]} <= names
    assert {"misc.entropy_of_old_logits_nats", "misc.wilson_95.15/30", "misc.pass_at_k.n64_c5.8"} <= names


@pytest.mark.parametrize(
    "path",
    [
        ("case_a", "advantages", "rloo", 0),
        ("case_a", "losses", "gspo_0.2_0.2", "loss"),
        ("case_b", "losses", "dr_grpo_eps0.2", "grad", 2, 3),
        ("case_a", "mismatch", "geo_mask_0.9_1.1", "weights", 1, 1),
        ("case_b", "microbatch", "dapo_micro_contributions", 2),
        ("misc", "kl_enumeration", "grad_logits_k3_ratio", 0),
    ],
)
def test_a_wrong_number_fails_its_row_alone(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    def nudge(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] += 1e-9

    failed = [row for row in check_file(rewritten(tmp_path, nudge)) if not row.ok]
    words = [str(part) for part in path if isinstance(part, str)]
    assert [row.name for row in failed] == [".".join(words)]
    assert failed[0].error > 1e-10


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda c: c["case_a"]["losses"].update(novelty={"loss": 1.0}), "case_a.losses.novelty"),
        (lambda c: c["case_a"]["advantages"].update(median=[1.0, 0, 0, 0]), "case_a.advantages.median"),
        (lambda c: c["case_a"]["losses"]["gmpo_0.4"].update(hessian=1.0), "case_a.losses.gmpo_0.4.hessian"),
        (lambda c: c["case_b"].update(entropies=[1.0]), "case_b.entropies"),
        (lambda c: c["misc"].update(temperatures={"T": 1}), "misc.temperatures"),
        (lambda c: c.update(notes="x"), "notes"),
    ],
)
def test_an_unknown_row_is_a_failing_row(tmp_path: Path, change: Any, name: str) -> None:
    failed = [row.name for row in check_file(rewritten(tmp_path, change)) if not row.ok]
    assert failed == [f"unknown: {name}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["case_a"]["inputs"].pop("logp_old"), r"row case_a\.inputs\.logp_old: missing"),
        (
            lambda c: c["case_b"]["inputs"]["logp_new"][3].pop(),
            r"row case_b\.inputs\.logp_new: not a regular",
        ),
        (lambda c: c["case_b"]["inputs"]["rewards"].pop(), r"row case_b\.inputs\.rewards: 11 rewards for 12"),
        (lambda c: c["case_a"]["inputs"].update(G=3), r"row case_a\.inputs\.G: 4 rows"),
        (lambda c: c["case_a"].update(inputs=7), r"row case_a\.inputs: must be a table"),
        (
            lambda c: c["case_a"]["losses"].update(gspo_1_1=3.0),
            r"row case_a\.losses\.gspo_1_1: must be a table",
        ),
        (lambda c: c["case_b"]["microbatch"].update(micro_batches=["0-3"]), r"'0-3' is not of the form"),
        (lambda c: c["case_b"]["microbatch"].update(micro_batches=["rows 0-11", "rows 3-5"]), r"overlaps"),
        (lambda c: c["case_b"]["microbatch"].update(micro_batches=["rows 0-10"]), r"row 11 is in no micro"),
        (lambda c: c["misc"]["gdpo"].pop("weights"), r"row misc\.gdpo: can't be read: input 'weights'"),
        (lambda c: c["misc"]["wilson_95"].update({"x": 1}), r"row misc\.wilson_95: can't be read"),
    ],
)
def test_a_broken_row_is_named_and_the_others_are_evaluated(
    tmp_path: Path, change: Any, message: str
) -> None:
    rows = check_file(rewritten(tmp_path, change))
    problems = [row.problem for row in rows if not row.ok]
    assert all(problems)  # nothing fails that could be evaluated
    assert re.search(message, "\n".join(problems))
    assert sum(row.ok for row in rows) > 100


HOSTILE = [
    (lambda c: c["case_a"]["inputs"].update(logp_new=[[10**400] * 3] * 4), "not a regular array"),
    (lambda c: c["case_a"]["inputs"]["mask"][0].__setitem__(0, 0.5), "neither 0 nor 1"),
    (lambda c: c["case_a"]["inputs"]["logp_old"][0].__setitem__(0, None), "not finite"),
    (lambda c: c["case_a"]["inputs"]["logp_old"][0].__setitem__(0, "-Infinity"), "not finite"),
    (lambda c: c["case_a"]["inputs"]["logp_old"][0].__setitem__(0, "a lot"), "not a regular array"),
    (lambda c: c["case_a"]["inputs"].update(rewards="NaN"), "not a regular array"),
    (lambda c: c["case_a"]["inputs"].update(mask=[]), r"has shape \[0\]"),
    (lambda c: c["case_b"]["inputs"].update(mask=[[0.0] * 4] * 12), ""),
    (lambda c: c["case_a"]["losses"]["gmpo_0.4"].update(loss=10**400), ""),
    (lambda c: c["case_a"]["losses"]["gmpo_0.4"].update(loss=float("nan")), ""),
    (lambda c: c["case_a"]["losses"]["gmpo_0.4"].update(loss=True), "neither a number nor a word"),
    (lambda c: c["case_a"]["losses"]["gmpo_0.4"].update(grad={"x": 1}), "FAIL  case_a.losses.gmpo_0.4.grad"),
    (lambda c: c["case_a"]["losses"].update(ppo_dual_clip_c1_verl_token_mean={"loss": 1}), "must be above"),
    (lambda c: c["case_a"]["advantages"].update({"grpo_ddof1_eps1e_999": [1]}), ""),
    (lambda c: c["case_a"].update(losses=[1]), "nothing of that name"),
    (lambda c: c["misc"].update(pass_at_k={"n2_c1": {"3": 1.0}}), "can't be read"),
    (lambda c: c["misc"].update(temperature={"T": 0, "logits": [1.0], "token": 0, "logp_T0": 0}), ""),
    (lambda c: c["misc"].update(avg_at_k={"correct": 7, "avg_at_4": 1}), "can't be read"),
    (
        lambda c: c["misc"].update(cons_at_k={"votes": [7], "gold": ["x"], "cons_first_seen": 1}),
        "can't be read",
    ),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_a_strangers_file_gives_failing_rows_and_nothing_worse(
    tmp_path: Path, change: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conformance(rewritten(tmp_path, change)) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    ok = sum(line.startswith("ok ") for line in lines)
    assert 100 < ok < len(lines)
    assert all(line.startswith(("ok ", "FAIL ")) for line in lines)
    assert last == f"{ok} of {len(lines)} rows agree to 1e-12 in float64"
    assert re.search(message, "\n".join(line for line in lines if line.startswith("FAIL ")))


def test_what_stands_in_the_padding_is_nobodys(tmp_path: Path) -> None:
    def fill(content: dict[str, Any]) -> None:
        inputs = content["case_b"]["inputs"]
        for key, filler in zip(("logp_new", "logp_old", "logp_ref"), (None, "NaN", -1e300), strict=True):
            for row, marks in zip(inputs[key], inputs["mask"], strict=True):
                row[:] = [value if mark else filler for value, mark in zip(row, marks, strict=True)]

    rows = check_file(rewritten(tmp_path, fill))
    assert [row.name for row in rows if not row.ok] == []
    assert len(rows) == 382


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[" * 100_000, "can't be read"),
        ('{"case_a": ' + "9" * 5000 + "}", "can't be read"),
        ("[]", "no 'case_…' table"),
        ('{"misc": {}}', "no 'case_…' table"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(text)
    with pytest.raises(CoveyError, match=message):
        check_file(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match="can't be read: No such file"):
        check_file(tmp_path / "none.json")


def test_half_precision_is_refused() -> None:
    with pytest.raises(CoveyError, match="float64 or float32"):
        check_file(COMMITTED, torch.bfloat16)


def test_a_row_without_chosen_tokens_is_read(tmp_path: Path) -> None:
    def mask_out(content: dict[str, Any]) -> None:
        content["case_b"]["inputs"]["mask"][1] = [0.0] * 4

    rows = {row.name: row for row in check_file(rewritten(tmp_path, mask_out))}
    assert rows["case_b.losses.gspo_0.2_0.2.seq_ratio"].got[1] == 1.0
    assert rows["case_b.losses.grpo_eps0.2_beta0.grad"].got[1] == [0.0] * 4

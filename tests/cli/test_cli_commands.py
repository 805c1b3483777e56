"""The commands as a newcomer types them, on the tiny recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from covey.cli import main
from covey.records import RunReader

TINY = str(Path(__file__).parents[2] / "recipes" / "tiny.toml")
DEMO = str(Path(__file__).parents[2] / "recipes" / "demo.toml")


@pytest.fixture
def covey(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command line in this process: (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["covey", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, trained in a process of its own as anyone would."""
    run = tmp_path_factory.mktemp("trained") / "run"
    words = [sys.executable, "-m", "covey", "train", TINY, "--run", str(run), "--seed", "3", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 4  # a start, four steps, evaluations, an end: each line an object
    return run


def test_a_run_leaves_its_record_and_a_model_that_transformers_loads(trained: Path) -> None:
    reader = RunReader(trained)
    manifest, summary = reader.manifest(), reader.summary()
    assert manifest["recipe"]["seed"] == 3
    assert [row["step"] for row in reader.metrics()] == [0, 1, 2, 3]
    assert summary is not None
    assert {"before", "after", "train_seconds"} <= summary.keys()
    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")

    answer = reader.evaluations()[-1].greedy[0]
    a_op_b = answer.problem_id
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{a_op_b}="}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    ids = list(prompt)
    for _ in answer.token_ids[0]:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert tuple(ids[len(prompt) :]) == answer.token_ids[0]


def test_a_run_verifies_and_can_be_measured(trained: Path, covey) -> None:
    code, out, err = covey("verify", str(trained))
    assert code == 0, out + err
    code, out, _ = covey("eval", str(trained), "--json")
    assert code == 0
    measured = json.loads(out)
    assert measured["problems"] == 8
    assert 0 <= measured["greedy"]["low"] <= measured["greedy"]["mean"] <= measured["greedy"]["high"] <= 1


def test_a_measure_is_json_where_an_interval_has_no_ends(trained: Path, covey) -> None:
    """JSON has no infinity, and Python's ``json`` writes one all the same."""
    shaped = '{ name = "overlong", max_tokens = 8, cache_tokens = 8 }'
    code, out, _ = covey("eval", str(trained), "--json", "--eval.problems", "1", "--reward", shaped)
    assert code == 0
    measured = json.loads(out, parse_constant=pytest.fail)
    assert measured["greedy"]["low"] == "-inf"


def test_an_existing_run_is_not_overwritten(trained: Path, covey) -> None:
    before = (trained / "metrics.jsonl").read_bytes()
    code, _, err = covey("train", TINY, "--run", str(trained))
    assert code == 1
    assert "exists and is not empty" in err
    assert "Traceback" not in err
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_a_wrong_key_is_told_before_torch_is_imported() -> None:
    words = (
        "import sys; sys.argv = ['covey', 'train', sys.argv[1], '--rollout.grup-size', '4']\n"
        "from covey.cli import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, TINY], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stdout.strip() == "False"
    assert "unknown key 'rollout.grup_size'; did you mean 'group_size'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rollout.group-size", "1"], "nothing to compare with"),
        (["--task.lo", "5"], "'arithmetic' has no parameter 'lo'; did you mean 'low'?"),
        (["--reward.name", "nmber"], "unknown reward 'nmber'; did you mean 'number'?"),
        (["--algorithm.preset", "modrn"], "modern"),
        (["--model.name", "./no/such/folder"], "no model at './no/such/folder'"),
        (["--rollout.max-prompt-tokens", "5"], "raise the limit, or take the row out"),
    ],
)
def test_what_the_user_can_mend_is_one_message(words: list[str], said: str, covey, tmp_path: Path) -> None:
    code, _, err = covey("train", TINY, "--quiet", "--run", str(tmp_path / "run"), *words)
    assert code == 1
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('{"prompt": "1+1", "answer": "2"}\n{"prompt": "2+2"}\n', "rows.jsonl, line 2: no column 'answer'"),
        ("", "rows.jsonl: no rows"),
        ('{"prompt": "1+1", "answer": "2"}\n{"prompt": \n', "rows.jsonl, line 2"),
    ],
)
def test_a_broken_dataset_names_file_and_row(rows: str, said: str, covey, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(rows)
    task = f'{{ name = "jsonl", path = "{tmp_path / "rows.jsonl"}" }}'
    code, _, err = covey("train", TINY, "--task", task, "--run", str(tmp_path / "run"))
    assert code == 1
    assert said in err


def test_plan_costs_nothing_and_shows_what_the_model_reads(covey) -> None:
    code, out, _ = covey("plan", TINY, "--json")
    assert code == 0
    planned = json.loads(out)
    assert planned["batch"]["completions_per_step"] == 64  # 8 problems × 8
    assert len(planned["prompts"]) == 2
    assert planned["prompts"][0]["tokens"] == len(planned["prompts"][0]["text"]) - sum(
        len(mark) - 1 for mark in ("<|start|>", "<|end|>", "<|start|>")
    )  # one token a character, special tokens being one


def test_doctor_finds_this_machine_well(covey) -> None:
    code, out, _ = covey("doctor")
    assert code == 0
    assert "recomputed batch" in out

"""The arithmetic behind the benchmarks' figures, and that each can be called. No timing is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from covey.evals.intervals import wilson as covey_wilson
from covey.models import load_policy
from harness.curves import overlap, seconds_until, stays_above, wilson
from harness.environments import Environment, cache
from harness.flops import Shape, decode_seconds, update_flops
from harness.measure import alternate, arguments, machine, parsed, speedup, spread
from harness.plot import chart, slope
from harness.update import fraction, work
from harness.work import Case, long_tailed, ragged

ROOT = Path(__file__).resolve().parents[2]
SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
}
TINY = Shape(layers=2, width=4, heads=2, kv_heads=1, head_dim=2, wide=8, vocabulary=10)


def test_a_speedup_is_above_one_when_we_are_faster() -> None:
    found = speedup([1.0, 2.0, 4.0], [6.0, 4.0, 20.0])
    assert found["ratio"] == 3.0  # medians: 6 / 2
    assert found["ratio_by_round"] == [6.0, 2.0, 5.0]
    assert speedup([2.0], [1.0])["ratio"] == 0.5


def test_rounds_must_pair() -> None:
    with pytest.raises(ValueError, match="shorter"):
        speedup([1.0, 1.0], [1.0])


def test_a_spread_is_the_median_with_its_range() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == {"median": 2.5, "min": 1.0, "max": 10.0, "n": 4}
    with pytest.raises(ValueError, match="no measurement"):
        spread([])


def test_turns_alternate() -> None:
    order: list[str] = []
    alternate({name: lambda n=name: order.append(n) for name in "AB"}, 3)
    assert "".join(order) == "ABABAB"


def test_smollm2_has_its_parameters() -> None:
    """All but the norms: 134,515,008 parameters - 61 norms × 576 = 134,479,872."""
    shape = Shape.of(SMOLLM2)
    assert shape.weights + shape.vocabulary * shape.width == 134_479_872
    assert shape.kv_values == 11_520  # 30 layers × 2 × 3 heads × 64


def test_the_matrices_are_those_of_the_model() -> None:
    """Against a model that `transformers` made: every linear layer's weights, and nothing else."""
    policy = load_policy({"hidden_size": 32, "layers": 3, "heads": 4, "kv_heads": 2, "intermediate_size": 48})
    shape = Shape.of(policy.module.config.to_dict())
    linear = sum(p.numel() for name, p in policy.parameters() if p.ndim == 2 and "embed" not in name)
    assert shape.weights == linear


def test_useful_flops_by_hand() -> None:
    """W = 2 layers × (4·(4+2·2) + 4·4 + 4·16 + 8·4) = 2 × (32 + 16 + 64 + 32) = 288.

    One prompt of 3, replies of 2 and 1: T = 3 + 1 + 0 = 4 tokens through the layers; they see
    K = 1 + 2 + 3, and 4 for the first token of the long reply, = 10 keys; C = 3 chosen tokens.
    forward = 2·288·4 + 4·2·2·2·10 + 2·10·4·3 = 2304 + 320 + 240 = 2864; three times that is 8592.
    """
    assert TINY.weights == 288
    assert update_flops(TINY, [(3, [2, 1])]) == 8592


def test_a_shared_stem_counts_once() -> None:
    """Two such groups whose prompts share 2 tokens: T = 2 + 2 × (1 + 1) = 6, K = (1 + 2) + 2 × (3 + 4) = 17,
    C = 6. forward = 2·288·6 + 32·17 + 80·6 = 3456 + 544 + 480 = 4480."""
    assert update_flops(TINY, [(3, [2, 1]), (3, [2, 1])], stem=2) == 3 * 4480


def test_without_a_stem_groups_add_up() -> None:
    assert update_flops(TINY, [(3, [2, 1]), (5, [4])]) == (
        update_flops(TINY, [(3, [2, 1])]) + update_flops(TINY, [(5, [4])])
    )


def test_the_ideal_decode_step_by_hand() -> None:
    """At 1000 FLOP/s for every matrix and 2 sequences: 2·2·(288 + 40) = 1312 FLOP = 1.312 s; keys and
    values of 2 × 5 tokens × 16 bytes (2 layers × 2 × 1 head × 2 × 2 bytes) at 160 bytes/s = 1 s."""
    rates = dict.fromkeys(TINY.matrices, 1000.0)
    assert decode_seconds(TINY, rates, 160.0, batch=2, length=5.0, size=2) == pytest.approx(2.312)


def test_a_fraction_is_of_the_rate() -> None:
    case = Case("one", 1, 2, (2, 1))
    answer = {"seconds": 2.0, "load_seconds": 0.1, "micro_batches": 1, "peak_gb": 1.0}
    found = fraction(case, [[1, 2, 3]], 0, TINY, [answer, answer | {"peak_gb": 1.5}], rate=8592.0)
    assert found["fraction"] == 0.5  # 8592 useful FLOPs in 2 s, of a rate of 8592 a second
    assert found["peak_gb"] == 1.5


def test_the_update_is_of_128_completions() -> None:
    case = work()
    assert (len(case.lengths), min(case.lengths), max(case.lengths)) == (128, 16, 128)
    assert len(set(case.lengths[:8])) > 1  # ragged within a group


def test_lengths_are_the_same_for_every_system() -> None:
    lengths = long_tailed(64, 16, 384)
    assert lengths == long_tailed(64, 16, 384)
    assert (min(lengths), max(lengths)) == (16, 384)
    # the median quantile is 16 · 2^(1/1.1) = 30.05: half are shorter, while the longest is 12 times that
    assert 28 <= sorted(lengths)[32] <= 32
    assert sorted(ragged(3, 10, 20)) == [10, 15, 20]


def test_a_case_asks_for_its_lengths_group_by_group() -> None:
    case = Case.even(2, 3, 5)
    assert (case.name, case.tokens) == ("2x3x5", 30)
    assert case.groups([[1], [2, 3], [4]]) == [
        {"prompt_ids": [1], "lengths": [5, 5, 5]},
        {"prompt_ids": [2, 3], "lengths": [5, 5, 5]},
    ]


def test_a_level_counts_only_once_it_holds() -> None:
    assert stays_above({0: 0.1, 2: 0.7, 4: 0.5, 6: 0.6, 8: 0.8}, 0.6) == 6
    assert stays_above({0: 0.7, 2: 0.5}, 0.6) is None
    assert seconds_until(2, [1.0, 2.0, 4.0]) == 3.0
    assert seconds_until(0, [1.0]) == 0.0


@pytest.mark.parametrize("right", [0, 3, 60, 128])
def test_the_interval_is_the_one_covey_reports(right: int) -> None:
    found, known = wilson([1.0] * right + [0.0] * (128 - right)), covey_wilson(right / 128, 128)
    assert (found["low"], found["high"]) == pytest.approx((known.low, known.high), abs=1e-4)


def test_intervals_overlap_when_they_share_a_value() -> None:
    assert overlap({"low": 0.1, "high": 0.3}, {"low": 0.3, "high": 0.5})
    assert not overlap({"low": 0.1, "high": 0.2}, {"low": 0.3, "high": 0.5})


def test_a_slope_is_a_power() -> None:
    assert slope([(x, 5 * x**2) for x in (1, 2, 4, 8)]) == pytest.approx(2)
    assert slope([(1, 3), (10, 3), (100, 3)]) == pytest.approx(0)
    assert slope([(2, 3), (2, 4)]) is None


def test_a_chart_is_svg(tmp_path: Path) -> None:
    chart(tmp_path / "a" / "c.svg", "t", "x", "seconds & <more>", {"one": [(1, 2), (2, 4)], "two": [(1, 1)]})
    root = ET.parse(tmp_path / "a" / "c.svg").getroot()
    assert sum(node.tag.endswith("circle") for node in root) == 3
    assert any(node.text == "seconds & <more>" for node in root)


def test_rounds_follow_quick_unless_given() -> None:
    parser = arguments("doc", rounds=5, quick=2)
    assert parsed(parser, []).rounds == 5
    assert parsed(parser, ["--quick"]).rounds == 2
    assert parsed(parser, ["--quick", "--rounds", "7"]).rounds == 7


def test_the_machine_is_told() -> None:
    told = json.loads(json.dumps(machine(1)))
    assert told["cores"] >= 1
    assert told["memory_gb"] > 0


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_BENCH_CACHE", str(tmp_path))
    assert cache() == tmp_path
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(Environment, "_pip", lambda self, *arguments: asked.append(arguments))
    monkeypatch.setattr("venv.create", lambda folder, **_: Path(folder).mkdir())
    environment = Environment("peer", ("a==1",), removed=("b",))
    assert environment.made() == environment.made() == tmp_path / "peer" / "bin" / "python"
    assert asked == [("install", "--quiet", "a==1"), ("uninstall", "--quiet", "--yes", "b")]


SCRIPTS = sorted(path.name for path in (ROOT / "bench").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_explains_itself(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / script, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_all_benchmarks_are_there() -> None:
    named = {"rollout", "update", "step_vs_trl", "time_to_reward", "roofline", "scaling", "startup"}
    assert named <= {Path(script).stem for script in SCRIPTS}

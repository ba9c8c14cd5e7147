"""``torchcreator inspect`` of transformers' models, from their configurations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.inspected import inspect, printed, table

pytest.importorskip("transformers")

SMALL = {"n_layer": 4, "n_embd": 8, "n_head": 2, "vocab_size": 10, "n_positions": 4}
GPT2 = "transformers:GPT2LMHeadModel"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A model's folder, as it is saved, but for its weights."""
    monkeypatch.chdir(tmp_path)
    saved = {**SMALL, "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "old": 1}
    (tmp_path / "small").mkdir()
    (tmp_path / "small/config.json").write_text(json.dumps({**saved, "dtype": "bfloat16"}))
    (tmp_path / "unnamed.json").write_text(json.dumps(SMALL))


WAYS = {
    "JSON": ([GPT2, "--config", json.dumps(SMALL)], "float32"),
    "words of all models": (
        [GPT2, "--config", json.dumps({**SMALL, "n_layer": 1, "num_hidden_layers": 4})],
        "float32",
    ),
    "a file": ([GPT2, "--config", "unnamed.json"], "float32"),
    "a folder": ([GPT2, "--config", "small"], "bfloat16"),
    "a folder alone": (["small"], "bfloat16"),
    "its file alone": (["small/config.json"], "bfloat16"),
    "a class for many": (["transformers:AutoModelForCausalLM", "--config", "small"], "bfloat16"),
    "another dtype": (["small", "--dtype", "fp16"], "float16"),
}


@pytest.mark.parametrize(("arguments", "dtype"), WAYS.values(), ids=WAYS)
def test_a_configuration_is_enough(arguments, dtype, capsys):
    """JSON, a file or a folder make the model that they describe, in its dtype, weights apart."""
    rows = {row["name"]: row for row in table(printed(capsys, *arguments))}
    block = rows["transformer.h.0–3.attn.c_attn.weight"]
    assert (block["count"], block["shape"], block["dtype"]) == ("4 ×", "8x24", dtype)
    assert rows["transformer.wte.weight"]["ties"] == "lm_head.weight"


COMPLAINTS = {
    "a word that is not read": (
        [GPT2, "--config", '{"n_layers": 4}'],
        "GPT2Config has no 'n_layers' (did you mean 'n_layer'?)",
    ),
    "a word that is not read, in one of many": (
        ["transformers:AutoModel", "--config", '{"model_type": "gpt2", "n_layers": 4}'],
        "GPT2Config has no 'n_layers' (did you mean 'n_layer'?)",
    ),
    "no JSON": ([GPT2, "--config", "{n_layer: 4}"], "--config is not JSON: "),
    "a list": (["transformers:GPT2Model", "--config", "list.json"], "write a JSON object"),
    "no file": ([GPT2, "--config", "no.json"], "'no.json' cannot be read: No such file"),
    "a folder without one": (["empty"], "'empty/config.json' cannot be read"),
    "no architecture": (["bare"], "'bare' names no architecture: write transformers:CLASS"),
    "no such class": (["transformers:GPT2", "--config", "small"], "has no 'GPT2' (did you mean"),
    "no model": (["transformers:pipeline", "--config", "small"], "takes no configuration"),
    "which of many": (
        ["transformers:AutoModel", "--config", "unnamed.json"],
        "the configuration lacks 'model_type'",
    ),
    "an unknown kind": (
        ["transformers:AutoModel", "--config", '{"model_type": "gpt-2"}'],
        'refuses \'{"model_type": "gpt-2"}\'',
    ),
    "another library": (["torch.nn:Linear", "--config", "small"], "'torch.nn:Linear' is none"),
    "arguments too": ([GPT2, "[]", "--config", "small"], "takes no other arguments"),
}


@pytest.mark.parametrize(("arguments", "complaint"), COMPLAINTS.values(), ids=COMPLAINTS)
def test_what_is_no_configuration_is_one_line(arguments, complaint, capsys, tmp_path):
    """Bad input ends with status 2 and one line."""
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text("{}")
    assert inspect(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert captured.err.count("\n") == 1


def test_the_guide_shows_what_llama_takes(capsys):
    """The guide's figures for 70 billion parameters are those that the command prints."""
    guide = (Path(__file__).parents[2] / "docs/guides/inspecting.md").read_text()
    (shown,) = re.findall(r"^```text\n(training, .*?)^```$", guide, re.DOTALL | re.MULTILINE)
    config = {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    asked = ("--training", "adamw", "--dtype", "bf16", "--ranks", "8")
    llama = ("transformers:LlamaForCausalLM", "--config", json.dumps(config))
    assert printed(capsys, *llama, *asked).endswith(f"\n\n{shown}")

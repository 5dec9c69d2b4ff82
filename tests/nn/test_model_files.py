"""Language models that ask for much, or bring code, are refused before anything is built, run or asked."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.nn.pretrained import Pretrained, UnsupportedModelError
from rxlm.rxt.models import RxTAlpha
from text_models import tiny_text_model

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({marker!r}).write_text("ran")

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_language_model("llama", folder)
    return folder


def changed(folder: Path, target: Path, **fields: Any) -> Path:
    """Copy a model's folder with some fields of its configuration changed."""
    shutil.copytree(folder, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **fields}))
    return target


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_hidden_layers", 10**6, "num_hidden_layers=1000000; at most 4,096"),
        ("num_hidden_layers", 8, "num_hidden_layers=8, and the tensors beside it are of 7 layers"),
        ("num_hidden_layers", 6, "num_hidden_layers=6, and the tensors beside it are of 7 layers"),
        ("vocab_size", 10**9, "vocab_size=1000000000 and hidden_size=48, and the embedding beside it is"),
        ("max_position_embeddings", 10**12, "max_position_embeddings=1000000000000; at most"),
        ("_attn_implementation", "org/kernel", "asks for the attention 'org/kernel', code that is not run"),
    ],
)
def test_a_configuration_is_compared_with_the_tensors_first(
    field: str, value: Any, message: str, llama: Path, tmp_path: Path
) -> None:
    folder = changed(llama, tmp_path / "model", **{field: value})
    started = time.monotonic()
    with pytest.raises(UnsupportedModelError, match=message) as error:
        _ = Pretrained(folder).model
    assert str(folder) in str(error.value)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", '{"num_hidden_layers": ' + "9" * 9999 + "}"])
def test_a_configuration_that_is_no_json_is_named(text: str, llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(text)
    with pytest.raises(UnsupportedModelError, match=r"model/config\.json is not JSON"):
        Pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("decoder_config", "num_layers", 10**6, "num_layers=1000000, and"),
        ("decoder_config", "num_layers", 10**9, "num_layers=1000000000, and"),
        ("decoder_config", "max_seq_len", 10**9, "max_seq_len must be at most 16,777,216, got 1000000000"),
        ("memory_attention_config", "num_slots", 10**9, "num_slots must be at most 16,777,216"),
        ("decoder_config", "dim", 10**9, "dim must be at most"),
        ("decoder_config", "dim", 1 << 23, "head_dim .* must be at most 65,536"),
    ],
)
def test_sizes_of_a_reactive_transformer_are_bounded(
    part: str, field: str, value: int, message: str, tmp_path: Path
) -> None:
    tiny_text_model().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values[part][field] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    started = time.monotonic()
    with pytest.raises(ValueError, match=message) as error:
        RxTAlpha.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "words",
    [
        ["upcycle", "MODEL", "OUT"],
        ["llm", "from-gqa", "MODEL", "OUT"],
        ["bench", "memory", "MODEL", "--output", "OUT"],
        ["chat", "MODEL"],
        ["quickstart", "--upcycle", "MODEL", "--output", "OUT"],
    ],
)
def test_code_of_a_model_is_never_run_and_never_offered(
    words: list[str],
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    model = changed(llama, tmp_path / "model", model_type="own", auto_map=auto_map)
    (model / "own.py").write_text(CODE.format(marker=str(tmp_path / "marker")))
    named = {"MODEL": str(model), "OUT": str(tmp_path / "out")}
    assert main([named.get(word, word) for word in words]) == 1
    assert "custom code" in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()
    assert asked == []


def test_every_load_says_that_code_of_others_is_not_run() -> None:
    loads = [
        (file, load)
        for folder in ("src", "benchmarks")
        for file in (Path(__file__).parents[2] / folder).rglob("*.py")
        for load in re.findall(r"(?:Auto\w+|loader)\.from_pretrained\([^\n]*", file.read_text(encoding="utf-8"))
    ]
    assert len(loads) >= 5
    assert [load for load in loads if "trust_remote_code=False" not in load[1]] == []

"""A saved model that carries its code loads where rxlm is not installed."""

import json
from pathlib import Path

import pytest
import torch

from language_models import language_model
from process_groups import executed
from rxlm.llm.portable import carry_code

ELSEWHERE = """
import sys
sys.modules["rxlm"] = None  # as if it were not installed
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
torch.save(model(torch.arange(10, 30)[None]).logits, sys.argv[2])
"""


def test_a_model_loads_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model(num_experts=4, sliding_window=6)
    model.save_pretrained(tmp_path / "model")
    files = carry_code(tmp_path / "model")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    elsewhere = executed(ELSEWHERE, str(tmp_path / "model"), str(tmp_path / "logits.pt"))
    assert elsewhere.status == 0, elsewhere.errors

    # Not bit for bit: the other process may take another number of threads.
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), model(torch.arange(10, 30)[None]).logits)
    assert not any("from rxlm" in path.read_text() for path in files)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"]["AutoConfig"].startswith("llm_")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        carry_code(tmp_path)

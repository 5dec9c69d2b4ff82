"""`rxlm llm from-gqa` writes a model that transformers loads; mistakes are explained."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from rxlm.cli import main
from text_models import tiny_tokenizer

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 8}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_tokenizer()), num_key_value_heads=4, **SHAPE))
    model.save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_model_is_converted_with_its_tokenizer(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sqa"
    assert main(["llm", "from-gqa", str(llama), str(target), "--attention", "sqa", "--carry-code"]) == 0

    assert "4 query heads and 2 key/value heads of 8" in capsys.readouterr().out
    model, tokenizer = AutoModelForCausalLM.from_pretrained(target), AutoTokenizer.from_pretrained(target)
    assert model(**tokenizer("My dog", return_tensors="pt")).logits.shape[-1] == len(tiny_tokenizer())
    assert (target / "llm_modeling.py").is_file()


def test_mistakes_are_explained(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["llm", "from-gqa", str(llama), str(llama)]) == 1
    assert "exists and is not an empty folder" in capsys.readouterr().err
    assert main(["llm", "from-gqa", str(llama), str(llama / "out"), "--query-heads", "3"]) == 1
    assert "query_heads must divide the model's 8" in capsys.readouterr().err
    assert not (llama / "out").exists()

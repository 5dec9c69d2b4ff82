"""`rxlm upcycle` writes a Reactive Transformer of a chat model; mistakes are explained before any work."""

from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.rxt.models import RxTAlpha
from text_models import tiny_tokenizer


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_language_model("llama", folder)
    return folder


def test_a_chat_model_becomes_a_reactive_transformer(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model"
    assert main(["upcycle", str(llama), str(target), "--memory-layers", "1", "4", "--num-slots", "3"]) == 0
    out = capsys.readouterr().out
    assert "layers 1, 4 of 7 read a memory of 1,152 bytes a conversation" in out
    assert f"Go on: rxlm train upcycled --model {target}" in out
    assert RxTAlpha.from_pretrained(target).needed_tokenizer().chat_template
    assert main(["info", str(target)]) == 0
    assert "7 layers of 48" in capsys.readouterr().out


def test_the_seed_is_that_of_the_memorys_first_weights(llama: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("one", "3"), ("same", "3"), ("other", "4")):
        assert main(["upcycle", str(llama), str(tmp_path / name), "--seed", seed]) == 0
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_mistakes_are_explained(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*words: str) -> str:
        assert main(list(words)) == 1
        return capsys.readouterr().err

    assert "exists and is not an empty folder" in error("upcycle", str(llama), str(llama))
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=50)).save_pretrained(tmp_path / "gpt2")
    assert "'gpt2' is not supported; llama, mistral" in error("upcycle", str(tmp_path / "gpt2"), str(tmp_path / "out"))
    tiny_tokenizer().save_pretrained(tmp_path / "plain")
    (tmp_path / "plain" / "config.json").write_text((llama / "config.json").read_text(encoding="utf-8"))
    assert "no chat template" in error("upcycle", str(tmp_path / "plain"), str(tmp_path / "out"))
    assert "no GGUF" in error("quickstart", "--upcycle", str(tmp_path / "no.gguf"), "--output", str(tmp_path / "run"))
    assert not (tmp_path / "out").exists()

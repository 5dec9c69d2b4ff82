"""`rxlm upcycle` writes a Reactive Transformer of a chat model; `rxlm chat` takes the chat model itself."""

import io
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
    assert main(["upcycle", str(llama), str(target), "--memory-tokens", "40", "--max-seq-len", "64"]) == 0
    out = capsys.readouterr().out
    assert "a conversation keeps 40 tokens in each of 7 layers, 42,560 bytes" in out
    assert f"rxlm chat {target}" in out
    assert f"rxlm train upcycled --model {target}" in out
    assert RxTAlpha.from_pretrained(target).needed_tokenizer().chat_template
    assert main(["info", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "7 layers of 48" in shown
    assert "40 tokens a head, 7 layers x 2 heads x 8" in shown


def test_a_chat_model_is_talked_with_at_once(
    llama: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("My dog is called Rex.\nHello!\n/memory\n"))
    assert main(["chat", str(llama), "--memory-tokens", "60", "--max-seq-len", "30", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("you>") == 3
    assert "never more than 60 tokens a head" in out


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
    assert "at least twice num_sinks=4, got 6" in error("chat", str(llama), "--memory-tokens", "6")
    short = error("upcycle", str(llama), str(tmp_path / "out"), "--max-seq-len", "1")
    assert "max_seq_len must be at least 12, got 1: the chat template's form of a turn takes 10 tokens" in short
    assert "temperature must not be negative" in error("chat", "nowhere", "--temperature", "-1")
    assert not (tmp_path / "out").exists()

"""`rxlm data check` says what it understood of conversations, and what it would not use."""

import json
from pathlib import Path

import pytest

from pretrained_models import save_language_model
from rxlm.cli import main


def write(path: Path) -> Path:
    def chat(*messages: tuple[str, str], **more: object) -> str:
        return json.dumps({"messages": [{"role": role, "content": text, **more} for role, text in messages]})

    first = chat(("human", "My dog is [bold]Rex[/bold]."), ("gpt", "Fine. " * 40))
    cut = chat(("user", "Hello?"), ("assistant", "Hi."), ("user", "Still there?"))
    path.write_text("\n".join([first, first, cut, '{"title": "no chat"}', "{broken"]))
    return path


def test_it_counts_what_was_read_and_names_what_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.jsonl")
    assert main(["data", "check", str(file), "--turns", "1"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if "│" in line}
    assert rows["conversations"] == "3"
    assert rows["records that cannot be read"] == "2"
    assert rows["messages of 'human'"] == "2"
    assert rows["messages of 'assistant'"] == "1"
    assert "a.jsonl, line 4: no known form" in out
    assert "a.jsonl, line 5: not a JSON object" in out
    assert "line 3, messages[2]: has no answer" in out
    assert f"{file}, line 2: as {file}, line 1" in out
    assert "query>  My dog is [bold]Rex[/bold]." in out, "text is printed as it is"


def test_lengths_are_measured_against_the_limit_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_language_model("llama", tmp_path / "llama")
    assert main(["upcycle", str(tmp_path / "llama"), str(tmp_path / "model"), "--max-seq-len", "64"]) == 0
    file = write(tmp_path / "a.jsonl")
    assert main(["data", "check", str(file), "--model", str(tmp_path / "model")]) == 0
    out = capsys.readouterr().out
    assert "64" in next(line for line in out.splitlines() if "that the model takes" in line)
    assert "2 turns are longer than 64 tokens and would be cut" in out
    assert f"{file}, line 2, turn 1" in out
    assert "assistant" in out.split("as the model reads them")[1]


def test_nothing_to_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / "none.jsonl")]) == 1
    assert "no file to read" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text('{"title": "x"}')
    assert main(["data", "check", str(tmp_path / "a.jsonl")]) == 1
    assert "holds no conversation" in capsys.readouterr().err

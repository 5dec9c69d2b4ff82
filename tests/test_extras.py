"""What only some users need is asked for by the extra that has it, before work starts."""

import sys
from pathlib import Path

import pytest

from rxlm.cli import main
from rxlm.cli.output import as_here


@pytest.mark.parametrize(
    ("words", "package", "said"),
    [
        (["chat", "model.gguf"], "gguf", "gguf needs the package gguf: pip install 'reactive-lm[gguf]'."),
        (["chat", "model.gguf"], "accelerate", "gguf needs the package accelerate: pip install 'reactive-lm[gguf]'."),
        (["serve", "."], "uvicorn", "A server needs the package uvicorn: pip install 'reactive-lm[serve]'."),
    ],
)
def test_a_command_without_its_extra_says_which_it_is(
    words: list[str],
    package: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, package, None)
    assert main(words) == 1
    assert said in capsys.readouterr().err


def test_a_command_to_go_on_with_can_be_given_where_it_is_not_on_the_search_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/rxlm", "quickstart"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert as_here("rxlm chat runs/quickstart") == ".venv/bin/rxlm chat runs/quickstart"
    (tmp_path / "rxlm").touch(mode=0o755)
    assert as_here("rxlm chat runs/quickstart") == "rxlm chat runs/quickstart"

"""The command line finds its commands, and an error of the user is a sentence and a status, not a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rxlm import __version__
from rxlm.cli import COMMANDS, main
from rxlm.data.tokenizer import train_tokenizer
from rxlm.rxt.presets import build_preset


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out

    assert all(name in output and command.summary in output for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    output = capsys.readouterr().out

    assert f"usage: rxlm {name}" in output
    options = [line for line in output.splitlines() if line.startswith("│ --")]
    explained = [line for line in output.splitlines() if line.startswith("│ ") and "(default: " in line]
    assert all(options) or explained


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rxlm {__version__}\n"


def imported_by(words: list[str], names: set[str]) -> set[str]:
    """Return those of the modules `names` that a command imports, without input."""
    code = (
        "import sys\nfrom rxlm.cli import main\nstatus = main(sys.argv[2:])\n"
        "print('', *(name for name in sys.argv[1].split() if name in sys.modules))\nsys.exit(status)"
    )
    command = [sys.executable, "-c", code, " ".join(names), *words]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_what_runs_no_command_waits_for_no_library(words: list[str]) -> None:
    assert not imported_by(words, {"torch", "transformers", "numpy", "matplotlib", "tyro", "rich"})


def test_chat_with_a_saved_model_imports_nothing_for_others_and_nothing_of_training(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["some words to talk with"], 300)
    build_preset("tiny", tokenizer).save_pretrained(tmp_path)
    slow = {
        "rxlm.nn.pretrained",
        "transformers.generation",
        "matplotlib",
        "tensorboard",
        "datasets",
        "rxlm.training",
        "rxlm.recipes",
    }

    assert imported_by(["chat", str(tmp_path)], {*slow, "torch"}) == {"torch"}


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, "passive 30000"),
        ({"GOMP_SPINCOUNT": "0"}, "passive 0"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
        ({"OMP_WAIT_POLICY": "passive"}, "passive None"),
    ],
)
def test_threads_wait_for_a_moment_and_then_sleep_unless_told_otherwise(own: dict[str, str], found: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import os, sys, rxlm.__main__; print(*(os.environ.get(name) for name in {names}), 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name not in names} | own
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{found} False\n"  # OpenMP reads it when PyTorch is imported


def test_an_unknown_command_is_answered_with_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chta"]) == 2
    assert "Did you mean `rxlm chat`?" in capsys.readouterr().err


def test_half_a_command_is_answered_with_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer"]) == 2
    assert "Did you mean `rxlm tokenizer train`?" in capsys.readouterr().err


def test_a_users_error_is_one_sentence_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "./no/such/model"]) == 1
    error = capsys.readouterr().err

    assert error.startswith("rxlm chat: There is no folder ./no/such/model.")
    assert "Traceback" not in error


def test_python_m_rxlm_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "rxlm", "--version"], capture_output=True, text=True)

    assert result.stdout == f"rxlm {__version__}\n"

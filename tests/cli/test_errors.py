"""Whatever fails in whatever command is one line with file and cause, and an exit status by its kind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from pyarrow import ArrowInvalid
from safetensors import SafetensorError

from process_groups import executed
from rxlm.cli import COMMANDS, main
from rxlm.cli.errors import Status
from rxlm.file_errors import naming, read_json_object
from rxlm.serving.store.backend import StoreError
from rxlm.training.trainer import NotFiniteError
from text_models import tiny_text_model


def refused(number: int, file: str | None = "runs/x/model.safetensors") -> OSError:
    """Return what Python raises where the system refuses a file; writing an open file names none."""
    return OSError(number, os.strerror(number)) if file is None else OSError(number, os.strerror(number), file)


FAULTS: dict[str, tuple[BaseException, Status, str]] = {
    "a missing file": (refused(errno.ENOENT), Status.WRONG_INPUT, "runs/x/model.safetensors: No such file"),
    "a folder in place of a file": (refused(errno.EISDIR), Status.WRONG_INPUT, "safetensors: Is a directory"),
    "a file in place of a folder": (refused(errno.ENOTDIR), Status.WRONG_INPUT, "safetensors: Not a directory"),
    "no permission": (refused(errno.EACCES), Status.MACHINE, "safetensors: Permission denied"),
    "a read-only file system": (refused(errno.EROFS), Status.MACHINE, "safetensors: Read-only file system"),
    "a full disk": (refused(errno.ENOSPC, None), Status.MACHINE, "No space left on device"),
    "a broken disk": (refused(errno.EIO), Status.MACHINE, "Input/output error"),
    "a value": (ValueError("max_seq_len must be\nat least 1"), Status.WRONG_INPUT, "max_seq_len must be at least 1"),
    "a damaged file": (SafetensorError("header too large"), Status.WRONG_INPUT, "header too large"),
    "a full disk, by safetensors": (SafetensorError("I/O error: (os error 28)"), Status.MACHINE, "os error 28"),
    "a damaged Parquet file": (ArrowInvalid("magic bytes not found"), Status.WRONG_INPUT, "magic bytes"),
    "deep nesting": (RecursionError("maximum depth"), Status.WRONG_INPUT, "nested too deeply"),
    "a loss that is no number": (NotFiniteError("Step 3 gave loss nan"), Status.WRONG_INPUT, "Step 3 gave loss nan"),
    "no memory": (MemoryError(), Status.MACHINE, "not enough memory"),
    "no memory of a device": (torch.OutOfMemoryError("CUDA out of memory."), Status.MACHINE, "out of memory"),
    "no memory for a tensor": (RuntimeError("can't allocate memory: 8 bytes"), Status.MACHINE, "can't allocate"),
    "a lost process": (torch.distributed.DistNetworkError("peer left"), Status.MACHINE, "peer left"),
    "a missing package": (ImportError("reading x needs datasets"), Status.WRONG_INPUT, "needs datasets"),
    "a store": (StoreError("The store x: refused."), Status.WRONG_INPUT, "The store x: refused."),
    "a fault of ours": (KeyError("layers"), Status.INTERNAL, "internal error"),
    "a control character": (ValueError("\x1b[2J"), Status.WRONG_INPUT, "\N{REPLACEMENT CHARACTER}[2J"),
    "Ctrl-C": (KeyboardInterrupt(), Status.INTERRUPTED, "stopped by Ctrl-C."),
}


def raiser(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_every_command_is_one_line(
    fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, status, words = FAULTS[fault]
    for name, command in COMMANDS.items():
        monkeypatch.setattr(import_module(command.module), command.function, raiser(error))
        assert main(name.split()) == status
        line = capsys.readouterr().err
        assert line.startswith(f"rxlm {name}: ")
        assert line.count("\n") == 1
        assert words in line
        assert "Traceback" not in line


def test_debug_shows_the_traceback_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, command in COMMANDS.items():
        monkeypatch.setattr(import_module(command.module), command.function, raiser(KeyError("layers")))
        assert main([*name.split(), "--debug"]) == Status.INTERNAL
        assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_import_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr("rxlm.cli.import_module", fail)
    assert main(["info", "tiny"]) == Status.INTERRUPTED
    assert capsys.readouterr().err == "rxlm info: stopped by Ctrl-C.\n"


@pytest.mark.parametrize("words", [["chat", "MODEL"], ["bench", "memory", "MODEL"], ["train", "tiny"], ["quickstart"]])
@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_an_unknown_device_is_refused_before_anything_is_read(
    words: list[str], device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--device", device]) in (Status.WRONG_INPUT, Status.WRONG_COMMAND_LINE)
    assert repr(device) in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--data 5", "data must be a text or null, got 5"),
        ("--seed 1e999", "seed must be a whole number, got inf"),
        ("--seed 99999999999999999999", "seed must be a whole number"),
        ("--dialogues.steps ten", "steps must be"),
        ("--dialogues.optimizer.learning-rate fast", "learning_rate must be a finite number, got 'fast'"),
        ("--decoder 3", "decoder must be DecoderConfig, got 3"),
        ("--decoder.attention []", "attention must be AttentionConfig, got ()"),
        ("--name null", "name must be a text, got None"),
    ],
)
def test_a_value_of_another_type_names_its_field(change: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "babi" if change.startswith("--data") else "tiny"
    assert main(["train", recipe, *change.split(" "), "--dry-run"]) == Status.WRONG_INPUT
    assert words in capsys.readouterr().err


def test_a_file_that_is_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with pytest.raises(OSError, match=r"metrics\.jsonl"), naming(file):
        raise refused(errno.ENOSPC, None)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000])
def test_json_that_cannot_be_read_is_an_error_with_its_file(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        read_json_object(tmp_path / "config.json")


def test_output_that_is_refused_is_told(tmp_path: Path) -> None:
    tiny_text_model().save_pretrained(tmp_path)
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "rxlm", "info", str(tmp_path)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == Status.MACHINE
    assert result.stderr.startswith("rxlm info: No space left on device")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], ["info", "--help"], ["info", "."]])
def test_a_closed_pipe_ends_a_command_with_a_line(words: list[str], tmp_path: Path) -> None:
    if "." in words:
        tiny_text_model().save_pretrained(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "rxlm", *words], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    os.close(writing)
    assert result.returncode == Status.CLOSED_PIPE
    assert result.stderr.count("\n") == 1
    assert "the output was closed" in result.stderr


@pytest.mark.parametrize("delay", [0.3, 1.5])
def test_ctrl_c_during_the_start_is_one_line(delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rxlm", "train", "tiny", "--output", "/proc/nowhere"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode in (Status.INTERRUPTED, Status.WRONG_INPUT, -signal.SIGINT)
    assert "rxlm/" not in error  # no traceback through files of ours


def test_help_in_a_very_narrow_terminal_costs_no_memory() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); "
        "from rxlm.cli import main; raise SystemExit(main(['train', '--help']))"
    )
    ended = executed(script, COLUMNS="5")
    assert ended.status == 0, ended.errors
    assert "--dry-run" in ended.output

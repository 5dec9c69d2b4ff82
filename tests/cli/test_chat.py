"""`rxlm chat` works through pipes, with every command, and as a terminal."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rxlm.cli import main
from rxlm.cli.chat import ChatTerminal
from rxlm.rxt.conversation import Conversation
from text_models import tiny_text_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat") / "model"
    tiny_text_model().save_pretrained(path)
    return path


def pipe(folder: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))
    return main(["chat", str(folder), "--seed", "1", *options])


def answers(output: str) -> list[str]:
    """The text after each echoed message, up to the next."""
    return [part.partition("\n")[2].strip("\n") for part in output.split("\nyou> ")[1:]]


def test_each_line_of_a_pipe_is_a_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipe(folder, ["My dog is called Rex.", "What is my dog called?"], monkeypatch) == 0
    output = capsys.readouterr().out

    assert output.count("you> ") == 2
    assert all(answers(output))


def test_every_command_does_what_it_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a chat.safetensors"
    lines = ["Hello", "Hello", "/memory", "/undo", "/fork", "Hello", "/back", f"/save '{file}'", "/retry", "/reset",
             "/undo 0", f"/load '{file}'", "/undo 1", "/help", "/quit", "never read"]  # fmt: skip
    assert pipe(folder, lines, monkeypatch) == 0
    output = capsys.readouterr().out

    for remark in (
        "2 layers x 4 slots x 16 = 512 bytes",
        "1 turns remain.",
        "In copy 1; /back returns.",
        "Back, at 1 turns.",
        "Saved 1 turns to",
        "The memory is as it was at first.",
        "Loaded 1 turns from",
        "/fork          go on in a copy",
    ):
        assert remark in output
    assert output.count("0 turns remain.") == 2
    assert "never read" not in output


def test_a_saved_conversation_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "chat.safetensors")
    pipe(folder, ["My dog is called Rex.", f"/save {file}", "What?"], monkeypatch)
    straight = answers(capsys.readouterr().out)[-1]
    assert pipe(folder, ["What?"], monkeypatch, "--load", file) == 0

    assert answers(capsys.readouterr().out)[-1] == straight


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/dance", "There is no command /dance"),
        ("/undo 3", "There are 0 turns to undo"),
        ("/undo two", "/undo takes a number of turns"),
        ("/save", "/save was given 0 arguments"),
        ("/save 'half a quote", "No closing quotation"),
        ("/back", "This is no copy"),
        ("/load nothing.safetensors", "There is no saved conversation nothing.safetensors"),
    ],
)
def test_a_failing_line_of_a_pipe_ends_the_chat_with_its_reason(
    line: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipe(folder, [line], monkeypatch) == 1
    assert message in capsys.readouterr().err


def test_a_message_that_is_too_long_is_cut_and_the_chat_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipe(folder, ["word " * 60, "Hello"], monkeypatch) == 0

    assert re.findall(r"too long: its first \d+ tokens were cut", capsys.readouterr().out) == [
        "too long: its first 219 tokens were cut"
    ]


def test_bad_options_are_refused_before_the_first_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipe(folder, ["Hello"], monkeypatch, "--temperature", "-1") == 1
    assert "temperature must not be negative" in capsys.readouterr().err
    assert pipe(folder, ["Hello"], monkeypatch, "--thinking", "fast") == 1
    assert "is for RxTBeta" in capsys.readouterr().err


def test_on_a_terminal_an_error_is_shown_and_the_chat_goes_on(folder: Path) -> None:
    screen = Terminal([sys.executable, "-m", "rxlm", "chat", str(folder), "--seed", "1"])
    screen.expect("you> ")
    screen.type("/dance")
    screen.expect("There is no command /dance")
    screen.type("Hello")
    screen.expect("RxTAlpha> ")
    screen.expect("you> ")
    screen.type("/memory")
    screen.expect("512 bytes")
    screen.type("/quit")

    assert screen.wait() == 0


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self.fd, inner = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=environment)
        os.close(inner)
        self.seen = ""

    def expect(self, text: str) -> None:
        """Read until the text appears after what was expected before."""
        deadline = time.monotonic() + 60
        while not (match := re.search(re.escape(text), self.seen)):
            assert time.monotonic() < deadline, self.seen
            self.seen += os.read(self.fd, 4096).decode("utf-8", "replace")
        self.seen = self.seen[match.end() :]

    def type(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def wait(self) -> int:
        status = self.process.wait(timeout=60)
        os.close(self.fd)
        return status


def test_a_file_that_is_refused_does_not_end_a_conversation_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = ChatTerminal(Conversation(tiny_text_model(), seed=1))
    terminal.interactive = True
    lines = iter(["Hello", "/save /proc/nowhere/chat.safetensors", "/load /nothere", "/undo", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    terminal.run()
    output = capsys.readouterr().out

    assert "/proc/nowhere: No such file or directory" in output
    assert "There is no saved conversation /nothere" in output
    assert "0 turns remain" in output

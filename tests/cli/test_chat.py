"""`rxlm chat` works through pipes, with every command, and as a terminal."""

import io
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rxlm.cli import main
from rxlm.cli.chat import ChatTerminal
from rxlm.cli.screen import Screen
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
        "1 turn left.",
        "In copy 1; /back returns.",
        "Back, at 1 turn.",
        "Saved 1 turn to",
        "The memory is as it was at first.",
        "Loaded 1 turn from",
        "/fork          go on in a copy",
    ):
        assert remark in output
    assert output.count("0 turns left.") == 2
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
        ("/save", "/save needs an argument"),
        ("/retry now", "/retry takes no argument, got 'now'"),
        ("/save .", ". is not a regular file"),
        ('"""never\nended', "The input ended inside a message that began with"),
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


def typed(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> Conversation:
    """Type lines at a chat of this process as if it had a terminal, and return the conversation."""
    terminal = ChatTerminal(Conversation(tiny_text_model(), seed=1))
    terminal.screen.interactive = True
    waiting = iter(lines)
    monkeypatch.setattr("builtins.input", lambda _: next(waiting))
    terminal.run()
    return terminal.conversation


def test_what_fails_does_not_end_a_conversation_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no conversation")
    os.mkfifo(tmp_path / "fifo")
    lines = {
        f"/save {tmp_path}": "is not a regular file",
        "/save /proc/nowhere/chat.safetensors": "/proc/nowhere: No such file or directory",
        "/save /dev/full": "is not a regular file",
        f"/save {tmp_path / ('x' * 300)}": "File name too long",
        f"/save {tmp_path / 'text' / 'chat'}": "/text",
        "/save a\0b": "null",
        f"/save {tmp_path / 'text'}": "holds no saved conversation, and is left as it is",
        "/load /nothere": "There is no saved conversation /nothere",
        f"/load {'x' * 5000}": "File name too long",
        f"/load {tmp_path}": "There is no saved conversation",
        f"/load {tmp_path / 'fifo'}": "There is no saved conversation",
        f"/load {tmp_path / 'text'}": "is damaged",
        "/load /proc/self/mem": "mem",
        "/save": "needs an argument",
        "/undo " + "9" * 5000: "4300",
        "/usr/bin is a folder": "// begins a message with a slash",
        "half an emoji: \ud83d": "bytes that are no text",
    }
    conversation = typed(["Hello", *lines, "/undo 0", "/quit"], monkeypatch)
    output = capsys.readouterr().out

    assert len(conversation.turns) == 1
    assert "1 turn left." in output
    assert (tmp_path / "text").read_text() == "no conversation"
    for line, message in lines.items():
        assert message in output, line
    assert "internal error" not in output


def test_a_full_disk_is_one_line_that_names_the_file_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chat.safetensors"
    typed(["Hello", f"/save {file}", "/quit"], monkeypatch)
    saved = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        conversation = typed(["Hello", "Hello", f"/save {file}", "/quit"], monkeypatch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert len(conversation.turns) == 2
    assert f"{file}: " in capsys.readouterr().out.splitlines()[-1]
    assert file.read_bytes() == saved


def test_paths_are_taken_as_they_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names = [r"C:\temp\new.chat", "two words", "it's", "'quoted words'", '"double"', "~/of home"]
    typed([*(f"/save {name}" for name in names), *(f"/load {name}" for name in names), "/quit"], monkeypatch)

    found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {r"C:\temp\new.chat", "two words", "it's", "quoted words", "double", "of home"}


def test_messages_of_several_lines_and_with_a_slash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = '"""'
    lines = [
        block,
        "/save is",
        "",
        'a "command"',
        block,
        "//save",
        f"{block}one{block}",
        f"{block}two",
        f"three{block}",
    ]
    conversation = typed([*lines, "four\\", "/quit"], monkeypatch)

    assert [turn.query for turn in conversation.turns] == [
        '/save is\n\na "command"', "/save", "one", "two\nthree", "four\\"
    ]  # fmt: skip
    assert "There is no command" not in capsys.readouterr().out


def test_an_answer_ends_before_a_stop_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(folder, ["Hello"], monkeypatch)
    whole = answers(capsys.readouterr().out)[0]
    stop = whole[2:4]
    pipe(folder, [f"/stop '{stop}'", "Hello", "/undo", "/stop"], monkeypatch)
    output = capsys.readouterr().out
    assert f"Answers end before {stop!r}." in output
    assert answers(output)[1] == whole[: whole.index(stop)]
    assert "Answers end where the model ends them." in output
    pipe(folder, ["Hello"], monkeypatch, "--stop", stop)
    assert answers(capsys.readouterr().out)[0] == whole[: whole.index(stop)]
    assert pipe(folder, ["Hello"], monkeypatch, "--stop", "") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("C:\\temp\\new \\frac{1}{2} [1] \\[x] [bold]a[/bold] [/b] :key: :100: \tb", None),
        ("\u05d0\u200f \u0645\u06cc\u200c\u062e\u0648 \U0001f469\u200d\U0001f52c e\u0301", None),
        ("abc\u202edef\u202c \u2066x\u2069 \x9b31m\x1b[2J\r\b\x00 \u2028", "abc�def� �x� �31m�[2J��� �"),
        ("half \ud83d", "half �"),
    ],
)
def test_text_is_printed_as_it_is_and_steers_nothing(
    text: str, shown: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = ChatTerminal(Conversation(tiny_text_model(), seed=1))
    list(terminal.conversation.send("Hello"))
    for pieces in ([text], list(text)):
        terminal._stream(piece for piece in pieces)
        assert capsys.readouterr().out == f"{shown or text}\n"
    terminal.say(text)
    assert capsys.readouterr().out == f"{shown or text}\n"


def run_with(environment: dict[str, str], folder: Path, text: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "rxlm", "chat", str(folder), "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, input=text, capture_output=True, env=environment, timeout=100, check=False)


def test_output_that_the_encoding_lacks_is_replaced_and_input_that_it_lacks_is_told(folder: Path) -> None:
    ended = run_with({"PYTHONIOENCODING": "ascii"}, folder, "/stop é\nHello\nSchön\nnever read".encode())

    assert ended.stdout.count(b"you> ") == 3
    assert ended.returncode == 1
    assert ended.stderr == b"rxlm chat: The message has bytes that are no text in ascii.\n"


def test_on_a_terminal_errors_interrupts_and_encodings_do_not_end_the_chat(folder: Path, tmp_path: Path) -> None:
    screen = Terminal([sys.executable, "-m", "rxlm", "chat", str(folder), "--seed", "1"])
    screen.expect("you> ")
    screen.type(f"/save {tmp_path}")
    screen.expect("is not a regular file")
    screen.expect("you> ")
    screen.interrupt()
    screen.interrupt_until("/quit or Ctrl-D ends.")
    screen.type("/stop é")
    screen.expect("Answers end before")
    screen.expect("you> ")
    screen.type("Hello")
    screen.expect("RxTAlpha>")
    screen.expect("you> ")
    os.write(screen.fd, b"\x1b[A\n")  # the arrow brings the message back
    screen.expect("RxTAlpha>")
    screen.expect("you> ")
    screen.type("/undo 0")
    screen.expect("2 turns left.")
    screen.type("/quit")

    assert screen.wait() == 0


def test_ctrl_c_stops_an_answer_and_what_comes_after_it_interrupts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def show(self: Screen, text: str, style: str = "") -> None:
        said.append(text)
        if "Stopped" in text or said[-2:-1] == [" "]:  # the first piece of an answer, and what is said about its end
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Screen, "show", show)
    conversation = typed(["Hello", "/undo 0", "/quit"], monkeypatch)

    assert conversation.turns == ()
    assert any("Stopped; the conversation is as it was before." in text for text in said)
    assert "0 turns left.\n" in said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self.fd, inner = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
        ends = {"stdin": inner, "stdout": inner, "stderr": inner}
        self.process = subprocess.Popen(command, **ends, env=environment, start_new_session=True)
        os.close(inner)
        self.seen = ""

    def expect(self, text: str, seconds: float = 100) -> None:
        """Read until the text appears after what was expected before."""
        if not self.appears(text, seconds):
            self.process.kill()
            self.process.wait()
            pytest.fail(f"{text!r} did not appear after {seconds} seconds, but {self.seen!r}")

    def appears(self, text: str, seconds: float) -> bool:
        """Return whether the text appears in this time, and read past it."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(re.escape(text), self.seen)):
            if not select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
            self.seen += os.read(self.fd, 4096).decode("utf-8", "replace")
        self.seen = self.seen[match.end() :]
        return True

    def type(self, line: str) -> None:
        os.write(self.fd, f"{line}\n".encode())

    def interrupt(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)

    def interrupt_until(self, text: str) -> None:
        """Interrupt until the text appears; readline misses what comes between its prompt and its wait for a key."""
        for _ in range(20):
            self.interrupt()
            if self.appears(text, seconds=5):
                return
        self.expect(text, seconds=0)

    def wait(self) -> int:
        status = self.process.wait(timeout=60)
        os.close(self.fd)
        return status

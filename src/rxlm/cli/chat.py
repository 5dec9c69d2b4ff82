"""`rxlm chat`: a terminal for one conversation and its branches."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from rxlm.cli.errors import printable, sentence_of
from rxlm.nn.device import device_of
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.sampling import DEFAULT_SAMPLING, SamplingConfig
from rxlm.upcycling.loading import open_model

HELP = """\
/retry         give another answer to the last message
/undo [N]      take back the last turn, or the last N
/fork          go on in a copy of the conversation; /back returns to the original
/back          leave the copy
/reset         start again after the system prompt
/save PATH     write the conversation (memory, transcript) to a file
/load PATH     go on with a saved conversation
/memory        show what the memory takes, what the last turn changed, and which tokens it keeps
/help, /quit"""


def chat(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    system: str | None = None,
    load: Path | None = None,
    memory_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    max_seq_len: int | None = None,
    thinking: Literal["auto", "extended", "fast"] | None = None,
    seed: int | None = None,
    device: str = "cpu",
) -> None:
    """Talk with a model in the terminal; its memory is the conversation.

    The answer is printed as it is generated; the memory is updated while you read.

    Commands: /retry /undo /fork /back /reset /save /load /memory /help /quit.

    With input from a pipe each line is a message or a command, and one that fails ends the chat with status 1.

    Args:
        model: folder or hub id of the model, with its tokenizer; or a Llama- or Qwen-style chat model, GGUF files too,
            which then keeps the newest tokens of the conversation (see `rxlm upcycle`).
        system: a system prompt, read into the memory before the first turn.
        load: go on with a conversation that /save wrote, and with as many tokens as it kept.
        memory_tokens: tokens that a memory of tokens keeps of the conversation; as many as the model says if not given.
        temperature: how freely the answer is sampled; 0 takes the likeliest token. What is not given of this and the
            next four is what the model says, or else temperature 0.7 and top_p 0.95.
        top_k: sample from the k likeliest tokens.
        top_p: sample from the likeliest tokens that together have this probability.
        min_p: sample from tokens with at least this share of the probability of the likeliest one.
        repetition_penalty: above 1, tokens of this turn, and of what a memory of tokens keeps, are less likely to come
            again.
        max_seq_len: tokens of message and answer together; the model's limit if not given.
        thinking: for Beta models: think before the answer (extended), do not (fast), or as the model likes (auto).
        seed: makes the conversation repeatable.
        device: where to compute: cpu, cuda, cuda:1, ...
    """
    asked: dict[str, Any] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    SamplingConfig(**given)  # a mistake is told before the model is loaded
    place = device_of(device)
    network = open_model(model, memory_tokens=memory_tokens, device=place)
    sampling = (network.sampling or DEFAULT_SAMPLING).replace(**given)
    network.length_limit(max_seq_len)
    network.opening(thinking)
    conversation = Conversation(network, system=system, sampling=sampling, seed=seed, memory_tokens=memory_tokens)
    terminal = ChatTerminal(conversation, max_seq_len=max_seq_len, thinking=thinking)
    if load is not None:
        terminal.load(str(load))
    terminal.run()


class ChatTerminal:
    """Reads messages and commands, and writes answers, on a terminal or through pipes."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        max_seq_len: int | None = None,
        thinking: Literal["auto", "extended", "fast"] | None = None,
    ) -> None:
        self.branches = [conversation]
        self.options = {"max_seq_len": max_seq_len, "thinking_mode": thinking, "fit": "cut"}
        self.interactive = sys.stdin.isatty()
        self.console = Console(highlight=False, soft_wrap=True)
        self.commands: dict[str, Callable[..., None]] = {
            "retry": self.retry,
            "undo": self.undo,
            "fork": self.fork,
            "back": self.back,
            "reset": self.reset,
            "save": self.save,
            "load": self.load,
            "memory": self.memory,
            "help": self.help,
        }

    @property
    def conversation(self) -> Conversation:
        """The present branch."""
        return self.branches[-1]

    def run(self) -> None:
        """Converse until the input ends or says /quit."""
        if self.interactive:
            _enable_line_editing()
            name = type(self.conversation.model).__name__
            self.say(f"{name}. /help lists the commands, /quit or Ctrl-D ends.")
        for line in self._lines():
            if line.strip() in ("/quit", "/exit"):
                break
            turns = self.conversation.turns
            try:
                self.take(line)
            except Exception as error:
                if not self.interactive or isinstance(error, BrokenPipeError):
                    raise
                # A full disk or a missing file must not end a conversation that is only here.
                self.console.print(f"[red]{escape(sentence_of(error))}[/red]")
            except KeyboardInterrupt:
                remains = self.conversation.turns == turns
                self.say("\nStopped; the turn is dropped." if remains else "\nStopped; the turn is complete and stays.")
        self.conversation.wait()

    def take(self, line: str) -> None:
        """Answer one message, or do one command."""
        if not line.strip():
            return
        if not line.startswith("/"):
            self._stream(self.conversation.send(line, on_thought=self._think, **self.options))  # type: ignore[arg-type]
            return
        name, *arguments = shlex.split(line[1:]) or [""]
        if name not in self.commands:
            raise ValueError(f"There is no command /{name}; /help lists them.")
        try:
            self.commands[name](*arguments)
        except TypeError:
            raise ValueError(f"/{name} was given {len(arguments)} arguments; see /help.") from None

    def retry(self) -> None:
        """Give another answer to the last message."""
        self._stream(self.conversation.retry(on_thought=self._think, **self.options))  # type: ignore[arg-type]

    def undo(self, n: str = "1") -> None:
        """Take back the last n turns."""
        if not n.isdecimal():
            raise ValueError(f"/undo takes a number of turns, got {n!r}.")
        self.conversation.undo(int(n))
        self.say(f"{len(self.conversation.turns)} turns remain.")

    def fork(self) -> None:
        """Go on in a copy."""
        self.branches.append(self.conversation.fork())
        self.say(f"In copy {len(self.branches) - 1}; /back returns.")

    def back(self) -> None:
        """Leave the present copy."""
        if len(self.branches) == 1:
            raise ValueError("This is no copy; /fork makes one.")
        self.branches.pop()
        self.say(f"Back, at {len(self.conversation.turns)} turns.")

    def reset(self) -> None:
        """Start again."""
        self.conversation.reset()
        self.say("The memory is as it was at first.")

    def save(self, path: str) -> None:
        """Write the conversation to a file."""
        self.conversation.save(path)
        self.say(f"Saved {len(self.conversation.turns)} turns to {path}.")

    def load(self, path: str) -> None:
        """Go on with a saved conversation."""
        self.conversation.load(path)
        self.say(f"Loaded {len(self.conversation.turns)} turns from {path}.")

    def memory(self) -> None:
        """Show size and latest change of the memory."""
        now, before = self.conversation.memory, self.conversation.memory_before
        for line in now.describe(before):
            self.say(line)
        pieces = self.conversation.kept_tokens()
        if pieces is None:
            return
        self.say("what it keeps of the conversation: by all heads (bold), by most, by few (dim), by none (struck out)")
        for piece, share in pieces:
            self.console.print(printable(piece), style=_style_of(share), end="", markup=False)
        self.console.print()

    def help(self) -> None:
        """List the commands."""
        self.say(HELP)

    def say(self, text: str) -> None:
        """Write a message of the program, in a style that the model's text does not have."""
        self.console.print(f"[dim]{escape(text)}[/dim]")

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = input("\nyou> ") if self.interactive else sys.stdin.readline()
            except EOFError:
                return
            except KeyboardInterrupt:
                self.say("\n/quit or Ctrl-D ends.")
                continue
            if not self.interactive:
                if not line:
                    return
                line = line.rstrip("\n")
                if line.strip():
                    self.console.print(f"\nyou> {escape(line)}")
            yield line

    def _stream(self, pieces: Iterator[str]) -> None:
        if self.interactive:
            self.console.print(f"[bold]{type(self.conversation.model).__name__}>[/bold] ", end="")
        try:
            for piece in pieces:
                self.console.print(escape(printable(piece)), end="")
        finally:
            pieces.close()  # type: ignore[attr-defined]
            self.console.print()
        if cut := self.conversation.turns[-1].cut:
            self.say(f"The message was too long: its first {cut} tokens were cut.")

    def _think(self, piece: str) -> None:
        self.console.print(f"[dim italic]{escape(printable(piece))}[/dim italic]", end="")


def _style_of(share: float) -> str:
    """Return how a token is shown that so many of the heads keep."""
    if share == 1.0:
        return "bold"
    if share >= 0.5:
        return "default"
    return "dim" if share else "dim strike"


def _enable_line_editing() -> None:
    with contextlib.suppress(ImportError):  # Windows has none
        import readline  # noqa: F401  # importing it gives input() a history and editing keys

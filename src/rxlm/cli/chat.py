"""`rxlm chat`: a terminal for one conversation and its branches."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rxlm.cli.errors import sentence_of
from rxlm.cli.screen import BLOCK, Screen
from rxlm.export.names import Engine
from rxlm.nn.device import Dtype, device_of
from rxlm.rxt.conversation import Conversation, ConversationError
from rxlm.rxt.conversation_file import SavedConversation
from rxlm.rxt.sampling import DEFAULT_SAMPLING, SamplingConfig
from rxlm.upcycling.loading import open_model

HELP = f"""\
A line is a message. Lines from {BLOCK} to {BLOCK} are one message; a message that begins with / is written with //.

/retry         give another answer to the last message
/undo [N]      take back the last turn, or the last N
/fork          go on in a copy of the conversation; /back returns to the original
/back          leave the copy
/reset         start again after the system prompt
/save PATH     write the conversation (memory, transcript) to a file
/load PATH     go on with a saved conversation
/stop [TEXT]   end answers before this text, too; without a text: before none
/memory        show what the memory takes, what the last turn changed, and which tokens it keeps
/help          show this
/quit          end, as Ctrl-D does; Ctrl-C stops an answer, and the chat goes on"""


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
    stop: tuple[str, ...] = (),
    thinking: Literal["auto", "extended", "fast"] | None = None,
    seed: int | None = None,
    device: str = "cpu",
    dtype: Dtype = "auto",
    engine: Engine | None = None,
    adapters: Path | None = None,
) -> None:
    """Talk with a model in the terminal; its memory is the conversation.

    The answer is printed as it is generated; the memory is updated while you read.

    Commands: /retry /undo /fork /back /reset /save /load /stop /memory /help /quit. Three quotes begin and
    end a message of several lines; one that begins with / is written with //. Ctrl-C stops an answer.

    What fails is told, and the chat goes on; with input from a pipe it ends, with a status by the kind of fault.

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
        stop: texts that an answer ends before.
        thinking: for Beta models: think before the answer (extended), do not (fast), or as the model likes (auto).
        seed: makes the conversation repeatable.
        device: where to compute: cpu, cuda, cuda:1, ...
        dtype: type of the weights: float32, bfloat16, float16, or auto (bfloat16 on a GPU, elsewhere as saved).
        engine: what computes the model on a CPU: torch, onnx, onnx:int8 or onnx:int4 (weights of 8 or 4 bits); what
            the model was exported for, or torch, if not given.
        adapters: folder of adapters (LoRA) that were trained beside the model, as `rxlm train upcycled` writes them.
    """
    asked: dict[str, Any] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    SamplingConfig(**given)  # a mistake is told before the model is loaded
    if "" in stop:
        raise ValueError(f"stop must be texts, none of them empty, got {stop!r}.")
    place = device_of(device)
    network = open_model(
        model, memory_tokens=memory_tokens, device=place, dtype=dtype, engine=engine, adapters=adapters
    )
    sampling = (network.sampling or DEFAULT_SAMPLING).replace(**given)
    network.length_limit(max_seq_len)
    network.opening(thinking)
    conversation = Conversation(network, system=system, sampling=sampling, seed=seed, memory_tokens=memory_tokens)
    terminal = ChatTerminal(conversation, max_seq_len=max_seq_len, stop=stop, thinking=thinking)
    if load is not None:
        terminal.load(os.fspath(load))
    terminal.run()


class ChatTerminal:
    """Answers messages and does commands, on a terminal or through pipes."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        max_seq_len: int | None = None,
        stop: tuple[str, ...] = (),
        thinking: Literal["auto", "extended", "fast"] | None = None,
    ) -> None:
        self.branches = [conversation]
        self.options: dict[str, Any] = {
            "max_seq_len": max_seq_len, "stop": stop, "thinking_mode": thinking, "fit": "cut",
        }  # fmt: skip
        self.screen = Screen()
        self.commands: dict[str, Callable[..., None]] = {
            "retry": self.retry,
            "undo": self.undo,
            "fork": self.fork,
            "back": self.back,
            "reset": self.reset,
            "save": self.save,
            "load": self.load,
            "stop": self.stop,
            "memory": self.memory,
            "help": self.help,
        }

    @property
    def conversation(self) -> Conversation:
        """The present branch."""
        return self.branches[-1]

    @property
    def name(self) -> str:
        """What the model is called here."""
        return type(self.conversation.model).__name__

    def run(self) -> None:
        """Converse until the input ends or says /quit."""
        if self.screen.interactive:
            self.say(f"{self.name}. /help lists the commands, /quit or Ctrl-D ends.")
        with self.screen.kept_open():
            while self._goes_on():
                pass
        self.conversation.wait()

    def _goes_on(self) -> bool:
        """Read a message or command and do it; False at the end. On a terminal no fault ends the conversation."""
        asked, turns = False, self.conversation.turns
        try:
            with self.screen.stoppable():
                line = self.screen.read()
                if line is None or line.strip() in ("/quit", "/exit"):
                    return False
                asked = True
                self.take(line)
        except KeyboardInterrupt:
            if not self.screen.interactive:
                raise
            if not asked:
                self.say("\n/quit or Ctrl-D ends.")
            elif self.conversation.turns == turns:
                self.say("\nStopped; the conversation is as it was before.")
            else:
                self.say("\nStopped; the turn is complete and stays.")
        except Exception as error:
            if not self.screen.interactive or isinstance(error, BrokenPipeError):
                raise
            self.screen.show(f"{sentence_of(error)}\n", "red")
        return True

    def take(self, line: str) -> None:
        """Answer one message, or do one command."""
        if not line.strip():
            return
        if line.startswith("/") and not line.startswith("//"):
            self._command(*line[1:].split(maxsplit=1))
            return
        message = line.removeprefix("/")
        if any("\ud800" <= character <= "\udfff" for character in message):
            raise ValueError(f"The message has bytes that are no text in {sys.stdin.encoding}.")
        self._stream(self.conversation.send(message, on_thought=self._think, **self.options))

    def _command(self, name: str = "", rest: str = "") -> None:
        """Do a command with the rest of its line, quotes around that left out: a path is taken as it is."""
        if name not in self.commands:
            raise ValueError(f"There is no command /{name}; /help lists them, and // begins a message with a slash.")
        argument = rest.strip()
        if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "'\"":
            argument = argument[1:-1]
        arguments = [argument] if argument else []
        try:
            inspect.signature(self.commands[name]).bind(*arguments)
        except TypeError:
            words = "needs an argument" if not arguments else f"takes no argument, got {argument!r}"
            raise ValueError(f"/{name} {words}; see /help.") from None
        self.commands[name](*arguments)

    def retry(self) -> None:
        """Give another answer to the last message."""
        self._stream(self.conversation.retry(on_thought=self._think, **self.options))

    def undo(self, n: str = "1") -> None:
        """Take back the last n turns."""
        if not n.isdecimal():
            raise ValueError(f"/undo takes a number of turns, got {n!r}.")
        self.conversation.undo(int(n))
        self.say(f"{self._turns} left.")

    @property
    def _turns(self) -> str:
        """How many turns the conversation has, in words."""
        count = len(self.conversation.turns)
        return f"{count} turn{'s' * (count != 1)}"

    def fork(self) -> None:
        """Go on in a copy."""
        self.branches.append(self.conversation.fork())
        self.say(f"In copy {len(self.branches) - 1}; /back returns.")

    def back(self) -> None:
        """Leave the present copy."""
        if len(self.branches) == 1:
            raise ValueError("This is no copy; /fork makes one.")
        self.branches.pop()
        self.say(f"Back, at {self._turns}.")

    def reset(self) -> None:
        """Start again."""
        self.conversation.reset()
        self.say("The memory is as it was at first.")

    def save(self, path: str) -> None:
        """Write the conversation to a file; one that is there must be a saved conversation, too."""
        file = Path(os.path.expanduser(path))
        if file.is_file():
            try:
                SavedConversation.read(file)
            except ConversationError as error:
                raise ValueError(f"{path} is a file that holds no saved conversation, and is left as it is.") from error
        self.conversation.save(file)
        self.say(f"Saved {self._turns} to {path}.")

    def load(self, path: str) -> None:
        """Go on with a saved conversation."""
        self.conversation.load(os.path.expanduser(path))
        self.say(f"Loaded {self._turns} from {path}.")

    def stop(self, text: str | None = None) -> None:
        """End answers before one text more, or before none."""
        self.options["stop"] = () if text is None else (*self.options["stop"], text)
        texts = ", ".join(map(repr, self.options["stop"]))
        self.say(f"Answers end before {texts}." if texts else "Answers end where the model ends them.")

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
            self.screen.show(piece, style_of(share))
        self.screen.show("\n")

    def help(self) -> None:
        """List the commands."""
        self.say(HELP)

    def say(self, text: str) -> None:
        """Write a message of the program, in a style that the model's text does not have."""
        self.screen.show(f"{text}\n", "dim")

    def _stream(self, pieces: Iterator[str]) -> None:
        if self.screen.interactive:
            self.screen.show(f"{self.name}>", "bold")
            self.screen.show(" ")
        try:
            for piece in pieces:
                self.screen.show(piece)
        finally:
            pieces.close()  # type: ignore[attr-defined]
            self.screen.show("\n")
        if cut := self.conversation.turns[-1].cut:
            self.say(f"The message was too long: its first {cut} tokens were cut.")

    def _think(self, piece: str) -> None:
        self.screen.show(piece, "dim italic")


def style_of(share: float) -> str:
    """Return how a token is shown that so many of the heads keep."""
    if share == 1.0:
        return "bold"
    if share >= 0.5:
        return ""
    return "dim" if share else "dim strike"

"""Builds the smallest model and shows what a Reactive Transformer is: a memory that goes in and comes out.

Run with `make quickstart`. The weights are random, so that the answers are noise; what you see is the machinery:
a tokenizer, a model of 0.9 M parameters, a chat whose memory has a fixed size, and its fork, undo and file.
"""

from pathlib import Path

from rich.console import Console

from rxlm.cli.info import info
from rxlm.data.text_files import read_texts
from rxlm.data.tokenizer import train_tokenizer
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.generation import SamplingConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import build_preset

PROJECT = Path(__file__).parent.parent
FOLDER = Path("runs/quickstart")

console = Console(highlight=False)


def main() -> None:
    """Build, save, load and talk to a model."""
    console.rule("1. A tokenizer, trained on this project's pages")
    tokenizer = train_tokenizer(read_texts([PROJECT / "README.md", PROJECT / "docs"]), vocab_size=1024)
    console.print(f"{len(tokenizer):,} tokens, for example {tokenizer.tokenize('the memory of a conversation')}")

    console.rule("2. A model of the preset `tiny`, saved and loaded again")
    build_preset("tiny", tokenizer).save_pretrained(FOLDER)
    info(str(FOLDER))

    console.rule("3. A conversation (untrained: expect noise)")
    model = RxTAlpha.from_pretrained(FOLDER)
    conversation = Conversation(model, system="You remember.", sampling=SamplingConfig(top_k=50), seed=1)
    for text in ("My dog is called Rex.", "What is my dog called?"):
        say(conversation, text)

    console.rule("4. The conversation is a value")
    fork = conversation.fork()
    say(fork, "This is said in the fork only.")
    fork.undo()
    same = bool((fork.memory.slots == conversation.memory.slots).all())
    console.print(f"after fork and undo the memory is the same, bit for bit: {same}")
    path = FOLDER / "conversation.safetensors"
    conversation.save(path)
    console.print(f"saved to {path}: {path.stat().st_size:,} bytes, of them one memory {fork.memory.num_bytes:,}")

    console.rule()
    console.print(f"Go on: [bold].venv/bin/rxlm chat {FOLDER} --load {path}[/bold]  (or read README.md)")


def say(conversation: Conversation, text: str) -> None:
    """Send one message and print the answer as it comes."""
    console.print(f"[bold]you>[/bold] {text}")
    console.print("[bold]model>[/bold] ", end="")
    for piece in conversation.send(text, max_seq_len=40):
        console.print(piece, end="", markup=False)
    console.print()


if __name__ == "__main__":
    main()

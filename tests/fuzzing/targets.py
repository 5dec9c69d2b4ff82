"""What is fuzzed: for each kind of file, how one is damaged and how it is read."""

import csv
import gzip
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from fuzzing.damage import damaged_bytes, damaged_json, damaged_lines, damaged_record, damaged_tensors, without_digest
from fuzzing.gguf_file import write_gguf
from fuzzing.judge import check_tensors, check_texts
from pretrained_models import save_language_model
from rxlm.data.babi import read_babi
from rxlm.data.dialogue_forms import open_dialogues
from rxlm.data.loaders import load_dialogues, load_interactions, stream_texts
from rxlm.data.meetings import read_meetings
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import fairytale_dialogue, read_fairytales, read_picture_books, read_tiny_stories
from rxlm.data.turns import read_turns
from rxlm.folders import MARKER
from rxlm.memory import MemoryState
from rxlm.mrq_bench.own_dialogues import read_own_dialogues
from rxlm.recipes import RECIPES
from rxlm.recipes.run_folder import RECIPE_FILE, check_recipe
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.upcycling.model import upcycle
from text_models import tiny_text_model

PAIR = {"query": "What is my dog called?", "answer": "Rex.", "thought": "A name."}
DIALOGUE = {**PAIR, "id": "d1", "interactions": [{"query": "And my cat?", "answer": "Tom."}]}
MESSAGES = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi."},
                         {"role": "assistant", "content": "Hello.", "thinking": "Kind."}]}  # fmt: skip
SERVICE = {"id": "1_0", "services": ["Bus_1"],
           "turns": [["U", "A bus."], ["S", "Where?"], ["U", "Rome."], ["S", "Yes."]],
           "final_state": {"Bus_1": {"to": ["Rome", "rome"]}}}  # fmt: skip
TALE = {"story": "hens", "section_ids": ["1", "2"], "sections": ["There was a hen.", "She laid an egg."],
        "qa": [{"q": "Who?", "answers": ["a hen", "the hen"], "sections": "1,2", "attr": "character"}]}  # fmt: skip
MEETING = {"id": "m", "utterances": [["A", "Hi ."], ["B", "We 're done ."]],
           "queries": [{"query": "q", "answer": "a", "spans": [[0, 1]]}]}  # fmt: skip
BOOK = {"title": "A", "pages": ["One.", "Two."]}
OWN = {
    **PAIR,
    "interactions": [{**PAIR, "question": {"expected": ["Rex"], "distance": 1, "kind": "dog", "stale": ["Tom"]}}],
}
BABI = "1 Mary moved to the bathroom.\n2 John left.\n3 Where is Mary?\tbathroom\t1\n1 Dan sat.\n2 Who sat?\tDan\t1\n"
STORIES = "Once upon a time there was a small fox. " * 9 + "\n" + "Tom ran home and he was happy. " * 9


DATA = (
    "jsonl interactions", "jsonl dialogues", "jsonl any form", "jsonl texts", "jsonl own", "sgd", "turns",
    "fairytaleqa", "qmsum", "picture books", "json list", "gzip of damaged lines", "damaged gzip", "csv", "parquet",
    "babi", "stories", "recipe",
)  # fmt: skip
MODELS = ("model config", "model weights", "model tokenizer", "memory", "conversation", "transcript")
LANGUAGE_MODELS = ("llama config", "llama weights", "llama template", "gguf")


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Fields:
        make: writes a damaged file into an empty folder, and returns what is read.
        read: reads it. state: returns what must be as before where reading fails.
        weight: how often it comes.
    """

    make: Callable[[Path, random.Random], Path]
    read: Callable[[Path], Any]
    weight: int = 10
    state: Callable[[], Any] = lambda: None


def targets(base: Path, kinds: str = "") -> dict[str, Target]:
    """Return the targets whose name has `kinds` in it; their whole files are made in the folder `base`."""
    found: dict[str, Target] = {}
    for names, make in (DATA, _of_data), (MODELS, _of_models), (LANGUAGE_MODELS, _of_language_models):
        if any(kinds in name for name in names):
            found |= {name: target for name, target in make(base).items() if kinds in name}
    return found


def _of_data(base: Path) -> dict[str, Target]:
    def lines(*records: Any, name: str = "a.jsonl") -> Callable[[Path, random.Random], Path]:
        def make(folder: Path, rng: random.Random) -> Path:
            data = damaged_lines(list(records), rng)
            return _write(folder / name, gzip.compress(data) if name.endswith("gz") else data)

        return make

    def raw(name: str, data: bytes) -> Callable[[Path, random.Random], Path]:
        return lambda folder, rng: _write(folder / name, damaged_bytes(data, rng))

    table = io.StringIO()
    writer = csv.DictWriter(table, PAIR)
    writer.writeheader()
    writer.writerows([PAIR] * 20)
    records = [{**PAIR, "number": number, "interactions": [PAIR]} for number in range(300)]
    parquet.write_table(pyarrow.Table.from_pylist(records), base / "whole.parquet")
    columns = (base / "whole.parquet").read_bytes()
    packed = gzip.compress("\n".join(map(json.dumps, records)).encode())

    def tales(path: Path) -> Any:
        return [fairytale_dialogue(tale) for tale in read_fairytales(path)]

    return {
        "jsonl interactions": Target(lines(PAIR, PAIR, MESSAGES), load_interactions),
        "jsonl dialogues": Target(lines(DIALOGUE, MESSAGES), load_dialogues),
        "jsonl any form": Target(lines(DIALOGUE, MESSAGES, SERVICE, TALE, MEETING), open_dialogues, 20),
        "jsonl texts": Target(lines({"text": "One."}, {"text": "Two."}), lambda path: list(stream_texts(path))),
        "jsonl own": Target(lines(OWN, OWN), read_own_dialogues),
        "sgd": Target(lines(SERVICE, SERVICE), read_sgd),
        "turns": Target(lines(SERVICE), read_turns),
        "fairytaleqa": Target(lines(TALE), tales),
        "qmsum": Target(lines(MEETING), read_meetings),
        "picture books": Target(lines(BOOK, BOOK), read_picture_books),
        "json list": Target(
            lambda folder, rng: _write(folder / "a.json", damaged_json(json.dumps([DIALOGUE, MESSAGES]), rng)),
            load_dialogues,
        ),
        "gzip of damaged lines": Target(lines(PAIR, MESSAGES, name="a.jsonl.gz"), load_interactions),
        "damaged gzip": Target(raw("a.jsonl.gz", packed), load_dialogues),
        "csv": Target(raw("a.csv", table.getvalue().encode()), load_interactions),
        "parquet": Target(raw("a.parquet", columns), load_dialogues, 20),
        "babi": Target(raw("qa1_train.txt", BABI.encode()), lambda path: read_babi(path, tasks=[1])),
        "stories": Target(raw("a.txt", STORIES.encode()), read_tiny_stories, 5),
        "recipe": Target(_recipe, _read_recipe, 20),
    }


def _of_models(base: Path) -> dict[str, Target]:
    model = tiny_text_model()
    model.save_pretrained(base / "model")
    chat = Conversation(model, sampling=GREEDY, seed=1)
    for text in ("My dog is called Rex.", "What is my dog called?"):
        list(chat.send(text, max_seq_len=24))
    chat.wait()
    chat.save(base / "conversation.safetensors")
    chat.memory.save(base / "memory.safetensors")
    whole = {path.name: path.read_bytes() for path in (*(base / "model").iterdir(), *base.glob("*.safetensors"))}

    def load_conversation(path: Path) -> Any:
        chat.load(path)
        check_tensors(chat.memory.tensors().values())
        check_texts([chat.turns, chat.system])
        other = chat.fork()
        list(other.retry(max_seq_len=24) if other.turns else other.send("Hi.", max_seq_len=24))
        other.save(path)
        other.load(path)

    def state() -> Any:
        return list(chat.turns), chat.system, [tensor.clone() for tensor in chat.memory.tensors().values()]

    def one(name: str, damage: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, random.Random], Path]:
        return lambda folder, rng: _write(folder / name, damage(whole[name], rng))

    def in_folder(name: str, damage: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, random.Random], Path]:
        def make(folder: Path, rng: random.Random) -> Path:
            shutil.copytree(base / "model", folder, dirs_exist_ok=True)
            _write(folder / name, damage(whole[name], rng))
            if rng.random() < 0.7:  # as another program wrote it: what is damaged is not found by its sum
                (folder / MARKER).unlink()
            return folder

        return make

    return {
        "model config": Target(in_folder("config.json", _of_json), _load_model, 30),
        "model weights": Target(in_folder("model.safetensors", damaged_tensors), _load_model, 20),
        "model tokenizer": Target(in_folder("tokenizer.json", _of_json), _load_model, 5),
        "memory": Target(one("memory.safetensors", _of_tensors), _load_memory, 20),
        "conversation": Target(one("conversation.safetensors", _of_tensors), load_conversation, 20, state),
        "transcript": Target(one("conversation.safetensors", _of_record), load_conversation, 20, state),
    }


def _load_model(folder: Path) -> Any:
    loaded = RxTAlpha.from_pretrained(folder)
    check_tensors(loaded.state_dict().values())
    list(Conversation(loaded, sampling=GREEDY).send("Hi.", max_seq_len=min(12, loaded.max_seq_len)))


def _load_memory(path: Path) -> Any:
    check_tensors(MemoryState.load(path).tensors().values())


def _of_tensors(data: bytes, rng: random.Random) -> bytes:
    return damaged_tensors(data if rng.random() < 0.3 else without_digest(data), rng)


def _of_record(data: bytes, rng: random.Random) -> bytes:
    return damaged_record(without_digest(data), "conversation", rng)


def _of_json(data: bytes, rng: random.Random) -> bytes:
    return damaged_json(data.decode(), rng)


def _of_language_models(base: Path) -> dict[str, Target]:
    save_language_model("llama", base / "llama")

    def in_folder(name: str) -> Callable[[Path, random.Random], Path]:
        def make(folder: Path, rng: random.Random) -> Path:
            shutil.copytree(base / "llama", folder, dirs_exist_ok=True)
            data = (base / "llama" / name).read_bytes()
            damage = damaged_tensors if name.endswith("safetensors") else None
            _write(folder / name, damage(data, rng) if damage else damaged_json(data.decode(), rng))
            return folder

        return make

    def template(folder: Path, rng: random.Random) -> Path:
        shutil.copytree(base / "llama", folder, dirs_exist_ok=True)
        _write(folder / "chat_template.jinja", damaged_bytes((folder / "chat_template.jinja").read_bytes(), rng))
        return folder

    def gguf(folder: Path, rng: random.Random) -> Path:
        data = _gguf_bytes(base)
        start = rng.choice((600, 60_000, len(data)))  # names and sizes come first
        return _write(folder / "a.gguf", damaged_bytes(data[:start], rng) + data[start:])

    def read(path: Path) -> Any:
        check_tensors(upcycle(path).state_dict().values())

    return {
        "llama config": Target(in_folder("config.json"), read, 3),
        "llama weights": Target(in_folder("model.safetensors"), read, 2),
        "llama template": Target(template, read, 2),
        "gguf": Target(gguf, read, 4),
    }


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _recipe(folder: Path, rng: random.Random) -> Path:
    name = rng.choice(list(RECIPES))
    return _write(folder / RECIPE_FILE, damaged_json(json.dumps(RECIPES[name]().to_dict()), rng))


def _read_recipe(path: Path) -> Any:
    for make in (RECIPES["tiny"], RECIPES["babi"]):
        check_recipe(make(), path.parent)


def _gguf_bytes(base: Path) -> bytes:
    path = base / "whole.gguf"
    if not path.is_file():
        write_gguf(base / "llama", path)
    return path.read_bytes()

"""What computes a decoder fastest on a CPU: PyTorch, ONNX Runtime with few bits, and llama.cpp beside them.

    python benchmarks/engines.py MODEL --gguf FILE.gguf --threads 1

MODEL is upcycled from the language model in FILE.gguf, so that all have the same weights; llama.cpp computes with those
of the file (Q4_1, for example) and has the whole history in its cache. Needs the extra `onnx`, and xllamacpp for the
peer.

Printed, for turns 1 and 64 of one conversation: tokens a second of an answer, greedy, and time to its first token; the
best of some repetitions that all arms take in turn, so that what else the machine does meets all; and how many times as
fast as the first engine each is. `--rows` asks so many conversations at once. Figures are kept as JSON in the folder
`--output`.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import torch

from llama_cpp_peer import QUESTIONS, llama_server
from records import RESULTS, Record, at_least
from rxlm.export.engines import describe
from rxlm.memory import MemoryState
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.turn_engine import Query, TurnEngine
from rxlm.upcycling.loading import open_model

ANSWER = "That depends on what you like, and on the time that you have. Many people begin with the simplest thing."
Cost = tuple[float, float]
"""Seconds to the first token, and tokens a second after it."""


def memories_of(name: str, turns: list[int], rows: int) -> dict[int, MemoryState]:
    """Return the memory before each of some turns of a conversation, for so many rows."""
    model, memories = open_model(name), {}
    memory = model.init_memory()
    for turn in range(1, max(turns) + 1):
        if turn in turns:
            memories[turn] = memory.select([0] * rows)
        said = model.tokenize_full_interaction(QUESTIONS[turn % len(QUESTIONS)], ANSWER)
        memory = model.update_memory(memory, said["input_ids"], said["attention_mask"])
    return memories


class Reactive:
    """A model with an engine, which answers from such memories: how they were computed makes no difference in time."""

    def __init__(self, name: str, engine: str, memories: dict[int, MemoryState], tokens: int, rows: int) -> None:
        self.model: RxTAlpha = open_model(name, engine=engine)  # type: ignore[arg-type]
        self.memories, self.tokens, self.rows = memories, tokens, rows
        self.query = self.model.tokenize_query(QUESTIONS[0])["input_ids"][0].tolist()
        room = self.model.length_limit(None) - len(self.query)
        if tokens > room:
            raise SystemExit(f"--tokens must be at most {room}, the rest of a turn of {name}, got {tokens}.")

    def __call__(self, turn: int) -> Cost:
        engine = TurnEngine(self.model, self.rows)
        query = Query(self.query, self.model.opening(None), GREEDY, max_answer_tokens=self.tokens, ignore_eos=True)
        turns = [engine.prepare(query) for _ in range(self.rows)]
        begun = time.perf_counter()
        engine.begin(turns, self.memories[turn])
        engine.step()
        first = time.perf_counter()
        count = sum(1 for _ in engine.run())
        return first - begun, count * self.rows / (time.perf_counter() - first)


class LlamaCpp:
    """llama.cpp's server, one conversation whose history is in its cache."""

    def __init__(self, address: str, tokens: int) -> None:
        self.http, self.tokens = httpx.Client(base_url=address, timeout=3600), tokens

    def __call__(self, turn: int) -> Cost:
        history = [
            {"role": role, "content": text}
            for number in range(1, turn)
            for role, text in (("user", QUESTIONS[number % len(QUESTIONS)]), ("assistant", ANSWER))
        ]
        if history:  # read before, as it would have been
            self._ask(history[:-1], 1)
        timings = self._ask([*history, {"role": "user", "content": QUESTIONS[0]}], self.tokens)["timings"]
        return timings["prompt_ms"] / 1e3, timings["predicted_per_second"]

    def _ask(self, messages: list[dict], tokens: int) -> dict:
        body = {"messages": messages, "max_tokens": tokens, "temperature": 0, "cache_prompt": True, "ignore_eos": True}
        found = self.http.post("/v1/chat/completions", json=body)
        found.raise_for_status()
        return found.json()


@contextmanager
def peer(given: argparse.Namespace):
    if given.gguf is None or given.rows > 1:
        yield None
        return
    with llama_server(given.gguf, 1, given.threads, given.context) as address:
        yield LlamaCpp(address, given.tokens)


def a_word(model: RxTAlpha) -> str:
    conversation = Conversation(model, sampling=GREEDY)
    return "".join(conversation.send("What is the capital of France?"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--gguf")
    parser.add_argument("--engines", nargs="+", default=["torch", "onnx", "onnx:int8", "onnx:int4"])
    parser.add_argument("--turns", nargs="+", type=at_least(1), default=[1, 64])
    parser.add_argument("--tokens", type=at_least(2), default=64, help="of an answer")
    parser.add_argument("--rows", type=at_least(1), default=1)
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--context", type=at_least(1), default=4096, help="tokens of llama.cpp's context")
    parser.add_argument("--repeats", type=at_least(1), default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    arms: dict[str, Callable[[int], Cost]] = {}
    with peer(given) as llama:
        memories = memories_of(given.model, given.turns, given.rows)
        for engine in given.engines:
            arms[engine] = made = Reactive(given.model, engine, memories, given.tokens, given.rows)
            print(f"{engine}: {describe(made.model)}: {a_word(made.model)!r:.80}", flush=True)
        if llama is not None:
            arms["llama.cpp"] = llama
        found: dict[str, dict[int, list[Cost]]] = {name: {turn: [] for turn in given.turns} for name in arms}
        for _ in range(given.repeats):
            for turn in given.turns:
                for name, arm in arms.items():
                    found[name][turn].append(arm(turn))
    record = Record(given.output / "engines.json", given)
    for name, turns in found.items():
        for turn, costs in turns.items():
            first, rate = min(cost[0] for cost in costs), max(cost[1] for cost in costs)
            best = max(cost[1] for cost in found["llama.cpp"][turn]) if "llama.cpp" in found else None
            record.add(f"{name}/turn {turn}/an answer", [cost[1] for cost in costs], "tokens a second", better="more")
            record.add(f"{name}/turn {turn}/first token", [cost[0] for cost in costs], "s", better="less")
            if best is not None and name != "llama.cpp":
                record.add(f"{name}/turn {turn}, beside llama.cpp", rate / best, "times", better="more", kind="ratio")
            beside = "" if best is None else f", {rate / best:.2f} of llama.cpp"
            base = next(iter(found.values()))[turn]
            if costs is not base:
                times = [cost[1] / own[1] for cost, own in zip(costs, base, strict=True)]
                record.add(
                    f"{name}/turn {turn}, beside {given.engines[0]}", times, "times", better="more", kind="ratio"
                )
                beside += f", {median(times):.2f} times {given.engines[0]} ({min(times):.2f} to {max(times):.2f})"
            print(f"{name:11} turn {turn:3}: {rate:6.1f} tokens/s{beside}; first token {1e3 * first:.0f} ms")
    record.save()


if __name__ == "__main__":
    main()

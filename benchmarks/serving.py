"""Conversations of many turns, side by side: `rxlm serve`, the same one request at a time, and llama.cpp's server.

    python benchmarks/serving.py MODEL --gguf FILE.gguf --conversations 16 --turns 64

MODEL is upcycled from the language model in FILE.gguf, so that both servers have the same weights (rxlm in float32,
llama.cpp as the file has them). rxlm is asked by `/v1/responses` with the last response's id; llama.cpp's clients send
the whole history, which its cache of prompts may know. Each conversation sends its next message when it has its answer.
Needs the package xllamacpp for the peer.

Printed: tokens a second of all conversations together, time to the first token by turn (median, 99th percentile), and
bytes. The figures go to the folder `--output`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from llama_cpp_peer import QUESTIONS, llama_server
from records import RESULTS, Record, at_least

KEY = "benchmark-key-of-16-characters"
A_CONNECTION_EACH = httpx.Limits(max_keepalive_connections=0)
"""llama.cpp's server lets go of a kept connection at the moment that it is used again."""
RANGES = ((1, 1), (2, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128))


def message(conversation: int, turn: int) -> str:
    return f"({conversation}) {QUESTIONS[(conversation + turn) % len(QUESTIONS)]}"


class Rxlm:
    """Asks by the id of the last response."""

    def __init__(self, address: str) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        self.http = httpx.Client(base_url=address, headers=headers, timeout=3600, limits=A_CONNECTION_EACH)
        self.previous: str | None = None

    def ask(self, text: str, tokens: int) -> Iterator[str]:
        body = {"input": text, "previous_response_id": self.previous, "stream": True, "max_output_tokens": tokens}
        for event in _events(self.http, "/v1/responses", body | {"temperature": 0}):
            if event["type"] == "response.output_text.delta":
                yield event["delta"]
            elif event["type"] in ("response.completed", "response.incomplete"):
                self.previous = event["response"]["id"]
            elif event["type"] == "response.failed":
                raise RuntimeError(event["response"]["error"]["message"])


class LlamaCpp:
    """Sends the whole history."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=3600, limits=A_CONNECTION_EACH)
        self.messages: list[dict[str, str]] = []

    def ask(self, text: str, tokens: int) -> Iterator[str]:
        self.messages.append({"role": "user", "content": text})
        body = {"messages": self.messages, "stream": True, "max_tokens": tokens, "temperature": 0, "cache_prompt": True}
        answer = ""
        for event in _events(self.http, "/v1/chat/completions", body):
            if event.get("error"):
                raise RuntimeError(event["error"])
            for choice in event["choices"]:
                piece = choice["delta"].get("content") or ""
                answer += piece
                if piece:
                    yield piece
        self.messages.append({"role": "assistant", "content": answer})


def _events(http: httpx.Client, path: str, body: dict) -> Iterator[dict]:
    with http.stream("POST", path, json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(response.read().decode()[:300])
        for line in response.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])


def measure(client: type, address: str, conversations: int, turns: int, tokens: int) -> dict:
    """Let conversations run side by side; returns times to the first token by turn, and tokens a second."""
    first: list[list[float]] = [[] for _ in range(turns)]
    whole: list[list[float]] = [[] for _ in range(turns)]
    pieces, errors = [0], []

    def converse(number: int) -> None:
        own = client(address)
        try:
            for turn in range(turns):
                begun = time.perf_counter()
                seen = None
                for _ in own.ask(message(number, turn), tokens):
                    seen = seen or time.perf_counter()
                    pieces[0] += 1
                first[turn].append((seen or time.perf_counter()) - begun)
                whole[turn].append(time.perf_counter() - begun)
        except Exception as error:
            errors.append(f"conversation {number}, turn {turn + 1}: {error}")

    threads = [threading.Thread(target=converse, args=(number,)) for number in range(conversations)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "seconds": time.perf_counter() - begun, "pieces": pieces[0], "first": first, "whole": whole, "errors": errors,
    }  # fmt: skip


@contextmanager
def rxlm_server(
    model: str, rows: int, threads: int, folder: Path, memory_tokens: int, engine: str = "torch"
) -> Iterator[str]:
    environment = {**os.environ, "RXLM_API_KEY": KEY, "OMP_NUM_THREADS": str(threads)}
    command = [
        sys.executable, "-m", "rxlm", "serve", model, "--port", "0", "--rows", str(rows), "--store",
        str(folder / "store.sqlite"), "--threads", str(threads), "--log", str(folder / "log"), "--memory-tokens",
        str(memory_tokens), "--engine", engine,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1].split("/#")[0]
    try:
        while True:
            try:
                httpx.get(f"{address}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("store.sqlite*"))


def row(name: str, found: dict) -> list[str]:
    lines = [f"{name}: {found['pieces'] / found['seconds']:.1f} pieces of text a second, {found['seconds']:.0f} s"]
    for low, high in RANGES:
        times = [each for turn in found["first"][low - 1 : high] for each in turn]
        if times:
            ordered = sorted(times)
            p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            whole = [each for turn in found["whole"][low - 1 : high] for each in turn]
            lines.append(
                f"  turns {low}-{high}: first token p50 {statistics.median(times):.3f} s, p99 {p99:.3f} s; "
                f"whole answer p50 {statistics.median(whole):.2f} s"
            )
    return [*lines, *(f"  {error}" for error in found["errors"][:3])]


def add_figures(record: Record, arm: str, found: dict, conversations: int) -> None:
    """Add an arm's figures."""
    record.add(f"{arm}/pieces of text", found["pieces"] / found["seconds"], "a second", better="more")
    for low, high in RANGES:
        for name, times in (("first token", found["first"]), ("whole answer", found["whole"])):
            each = [one for turn in times[low - 1 : high] for one in turn]
            record.add(f"{arm}/turns {low}-{high}/{name}", each, "s", better="less")
    if "stored_bytes" in found:
        stored = found["stored_bytes"] / conversations
        record.add(f"{arm}/stored a conversation", stored, "bytes", better="less", kind="ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--gguf")
    parser.add_argument("--conversations", type=at_least(1), default=16)
    parser.add_argument("--turns", type=at_least(1), default=64)
    parser.add_argument("--tokens", type=at_least(1), default=24, help="of an answer, at most")
    parser.add_argument("--memory-tokens", type=at_least(1), default=128)
    parser.add_argument("--threads", type=at_least(1), default=2)
    parser.add_argument("--engine", default="torch", help="of rxlm, see rxlm serve")
    parser.add_argument(
        "--context", type=at_least(1), default=4096, help="tokens of llama.cpp's context for a conversation"
    )
    parser.add_argument("--arms", nargs="+", default=["rxlm", "one", "llama"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    record, speeds = Record(given.output / "serving.json", given), {}
    for arm in given.arms:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            options = (given.conversations, given.turns, given.tokens)
            if arm == "llama":
                with llama_server(given.gguf, given.conversations, given.threads, given.context) as address:
                    found = measure(LlamaCpp, address, *options)
            else:
                rows = 1 if arm == "one" else given.conversations
                with rxlm_server(
                    given.model, rows, given.threads, folder, given.memory_tokens, given.engine
                ) as address:
                    found = measure(Rxlm, address, *options)
                found["stored_bytes"] = bytes_of(folder)
        add_figures(record, arm, found, given.conversations)
        speeds[arm] = found["pieces"] / found["seconds"]
        for other, speed in speeds.items():
            if other != arm:
                record.add(f"{other} beside {arm}", speed / speeds[arm], "times", kind="ratio")
        record.save()
        for line in row(arm, found):
            print(line, flush=True)
        if "stored_bytes" in found:
            print(f"  {found['stored_bytes'] / given.conversations / 1e6:.1f} MB stored a conversation", flush=True)


if __name__ == "__main__":
    main()

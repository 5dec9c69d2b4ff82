"""Two servers over one Redis, killed in turn under load: is a turn lost, or answered from a wrong memory?

    PYTHONPATH=tests:tests/serving:tests/upcycling python dev/serving_torture.py --conversations 1000 --turns 8

Clients converse with either server; when one dies, they ask the other one, with the id of the last answer that they
have. Every answer is compared with that of a conversation without a server. Needs Debian's redis-server.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from pretrained_models import save_language_model
from redis_server import RedisServer
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.sampling import SamplingConfig
from rxlm.upcycling.model import upcycle

KEY = "torture-key-of-16-characters"
SAMPLING = {"temperature": 0.0, "repetition_penalty": 1.5}
WORDS = ("dog", "city", "name", "book", "train", "bread", "garden", "sister")
TOKENS = 8


def text(conversation: int, turn: int) -> str:
    return f"My {WORDS[turn % len(WORDS)]} is {WORDS[conversation % len(WORDS)]} {conversation}."


class Server:
    """A server process that is started again when it was killed."""

    def __init__(self, model: str, store: str, number: int, folder: Path) -> None:
        self.command = [
            sys.executable, "-m", "rxlm", "serve", model, "--store", store, "--port", str(19000 + number), "--rows",
            "8", "--threads", "1", "--cache-gigabytes", "0.05", "--log", str(folder / f"log{number}"), "--name", "tiny",
        ]  # fmt: skip
        self.address = f"http://127.0.0.1:{19000 + number}"
        self.starts = 0
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "RXLM_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, env=environment)
        self.starts += 1

    def wait(self) -> None:
        while True:
            try:
                httpx.get(f"{self.address}/health", timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds-between-kills", type=float, default=8.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis = RedisServer(folder, "--appendonly", "yes")
        save_language_model("llama", folder / "lm")
        model = upcycle(folder / "lm", memory_tokens=32, max_seq_len=48)
        model.save_pretrained(folder / "model")
        servers = [Server(str(folder / "model"), redis.url, number, folder) for number in range(2)]
        for server in servers:
            server.wait()
        print("serving", flush=True)
        found, ended = Counter(), threading.Event()
        killer = threading.Thread(target=kill_in_turn, args=(servers, given.seconds_between_kills, ended))
        killer.start()
        begun = time.monotonic()
        with ThreadPoolExecutor(given.clients) as pool:
            answers = list(
                pool.map(lambda number: converse(servers, number, given.turns, found), range(given.conversations))
            )
        ended.set()
        killer.join()
        seconds = time.monotonic() - begun
        for server in servers:
            server.kill()
        redis.kill()
        for number, own in enumerate(answers):
            for turn, (said, expected) in enumerate(zip(own, alone(model, number, given.turns), strict=True), 1):
                found["equal answers" if said == expected else "other answers"] += 1
                if said != expected:
                    print(f"conversation {number}, turn {turn}: {said!r} and not {expected!r}")
    kills = sum(server.starts - 1 for server in servers)
    print(
        f"{given.conversations} conversations of {given.turns} turns in {seconds:.0f} s, {kills} kills: {dict(found)}"
    )
    sys.exit(1 if found["other answers"] or found["lost turns"] else 0)


def kill_in_turn(servers: list[Server], seconds: float, ended: threading.Event) -> None:
    """Kill one server, start it again and wait for it; then the other."""
    number = 0
    while not ended.wait(random.uniform(0.3, 1.7) * seconds):
        server = servers[number % 2]
        server.kill()
        server.start()
        server.wait()
        number += 1


def converse(servers: list[Server], number: int, turns: int, found: Counter) -> list[str]:
    """Return the answers of a conversation; a request whose server dies is sent again."""
    previous, answers = None, []
    for turn in range(turns):
        body = {"input": text(number, turn), "previous_response_id": previous, "max_output_tokens": TOKENS, **SAMPLING}
        while True:
            server = random.choice(servers)
            try:
                response = httpx.post(
                    f"{server.address}/v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=120
                )
            except httpx.HTTPError:
                found["requests that died"] += 1
                time.sleep(0.05)
                continue
            if response.status_code == 200:
                break
            lost = "previous_response_not_found" in response.text
            found["lost turns" if lost else f"status {response.status_code}"] += 1
            if lost:
                return [*answers, *[""] * (turns - len(answers))]
            time.sleep(0.1)
        shown = response.json()
        previous = shown["id"]
        answers.append(shown["output"][-1]["content"][0]["text"])
    return answers


def alone(model, number: int, turns: int) -> list[str]:
    """Return what a conversation answers without a server."""
    conversation = Conversation(model, sampling=SamplingConfig(**SAMPLING), seed=0)
    answers = []
    for turn in range(turns):
        asked = text(number, turn)
        form = model.tokenizer_config
        limit = len(form.before_query) + len(form.before_answer) + TOKENS
        limit += len(model.needed_tokenizer().encode(asked, add_special_tokens=False))
        answers.append("".join(conversation.send(asked, max_seq_len=limit)))
    return answers


if __name__ == "__main__":
    main()

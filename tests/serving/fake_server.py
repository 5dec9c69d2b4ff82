"""A stand-in for `rxlm serve`: the API of the page over a dictionary, with answers that tests can foresee.

The answer to a question is "You said: QUESTION (1)", and (2) for the second answer to it from the same turn. Words in
the question ask for more: `slow` streams for ten seconds, `think` thinks first, `markdown` answers with markdown.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import rxlm

KEY = "rxlm-test-key"
PAGE = Path(rxlm.__file__).parent / "serving" / "page"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".md": "text/plain",
}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
SLOTS = 48
MARKDOWN = """## A heading

A *list* with `code`, **bold** words and [a link](https://example.org/):

1. one
2. two

| animal | legs |
|---|---:|
| cat | 4 |
| bird | 2 |

```python
def double(x):
    return 2 * x
```

> A quoted line.
"""

Json = dict[str, Any]


class Refused(Exception):  # noqa: N818
    """An answer with an error's status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def pieces_of(text: str) -> list[str]:
    """Cut a text into tokens: words with the space before them, long ones in two."""
    pieces = []
    for word in re.findall(r"\s*\S+", text):
        pieces += [word[:5], word[5:]] if len(word) > 7 else [word]
    return pieces


class FakeStore:
    """Conversations and their turns."""

    def __init__(self, memory: str = "retained") -> None:
        self.memory = memory
        self.conversations: dict[str, Json] = {}
        self.turns: dict[str, Json] = {}  # in order of their making, so that parents come first
        self.feedback: list[Json] = []
        self.requests: list[Json] = []  # the bodies of POST /v1/responses
        self.cancelled = 0
        self.count = 0
        self.lock = threading.RLock()

    def new_id(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.count:04d}"

    def status(self) -> Json:
        return {
            "version": "0.0", "model": "fake-16m", "memory": self.memory, "memory_tokens": 4096,
            "memory_bytes": 1_260_000, "max_seq_len": 1024, "feedback": True,
            "sampling": {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.0, "repetition_penalty": 1.0},
        }  # fmt: skip

    def conversation(self, name: str) -> Json:
        if name not in self.conversations:
            raise Refused(404, f"there is no conversation {name}")
        return self.conversations[name]

    def turn(self, name: str) -> Json:
        if name not in self.turns:
            raise Refused(404, f"there is no response {name}")
        return self.turns[name]

    def public(self, conversation: Json) -> Json:
        turns = [t for t in self.turns.values() if t["conversation"] == conversation["id"]]
        return {"object": "conversation", **conversation, "turns": len(turns)}

    def create(self, metadata: Json) -> Json:
        now = time.time()
        made = {"id": self.new_id("conv"), "created_at": now, "updated_at": now, "metadata": metadata, "head": None}
        self.conversations[made["id"]] = made
        return self.public(made)

    def listed(self, limit: int, after: str | None) -> Json:
        newest = sorted(self.conversations.values(), key=lambda c: c["updated_at"], reverse=True)
        if after is not None:
            newest = newest[[c["id"] for c in newest].index(after) + 1 :]
        page = newest[:limit]
        return {
            "object": "list", "data": [self.public(c) for c in page], "has_more": len(newest) > limit,
            "last_id": page[-1]["id"] if page else None,
        }  # fmt: skip

    def tree(self, name: str) -> Json:
        found = self.conversation(name)
        turns = [
            {k: v for k, v in t.items() if k != "conversation"}
            for t in self.turns.values()
            if t["conversation"] == name
        ]
        return {
            "id": name, "metadata": found["metadata"], "head": found["head"],
            "instructions": found.get("instructions"), "turns": turns,
        }  # fmt: skip

    def path(self, name: str | None) -> list[Json]:
        turns: list[Json] = []
        while name is not None:
            turns.insert(0, self.turn(name))
            name = turns[0]["parent"]
        return turns

    def add(self, conversation: str, parent: str | None, query: str, answer: str, **more: Any) -> Json:
        turn = {
            "id": self.new_id("resp"), "conversation": conversation, "parent": parent, "depth": len(self.path(parent)),
            "query": query, "answer": answer, "thought": None, "created_at": time.time(), "kind": "turn",
            "forgotten": None, "status": "completed", "usage": {"input_tokens": 5, "output_tokens": 9},
            "feedback": {"rating": None, "edit": None}, **more,
        }  # fmt: skip
        self.turns[turn["id"]] = turn
        self.conversations[conversation].update(head=turn["id"], updated_at=time.time())
        return turn

    def answer_to(self, query: str, parent: str | None) -> str:
        if "markdown" in query:
            return MARKDOWN
        again = sum(t["query"] == query and t["parent"] == parent for t in self.turns.values())
        words = " ".join(f"word{i}" for i in range(200)) if "slow" in query else ""
        return f"You said: {query} ({again + 1}) {words}".strip()

    def delete_turn(self, name: str, descendants: bool) -> None:
        turn = self.turn(name)
        doomed = {name}
        for other in self.turns.values():
            if other["parent"] in doomed:
                doomed.add(other["id"])
        if len(doomed) > 1 and not descendants:
            raise Refused(409, f"{name} has later turns; pass descendants=true to delete them, too")
        conversation = self.conversations[turn["conversation"]]
        if conversation["head"] in doomed:
            conversation["head"] = turn["parent"]
        self.turns = {k: v for k, v in self.turns.items() if k not in doomed}

    # What the inspector reads.

    def memory_after(self, name: str) -> Json:
        path = self.path(name)
        if self.memory == "slots":
            rows = [
                {"response_id": t["id"], "change": [(i * 37 + n * 11) % 23 / 23 / (1 + n / 4) for i in range(SLOTS)]}
                for n, t in enumerate(path)
            ]
            return {"kind": "slots", "num_bytes": 196_608, "slots": SLOTS, "turns": rows}
        turns: list[Json] = [{"response_id": None, "pieces": self.shared("You are a helpful model.", 0, 1.0)}]
        forgotten = {t["forgotten"] for t in path if t["kind"] == "forget"}
        said = [t for t in path if t["kind"] == "turn"]
        for n, turn in enumerate(said):
            start = sum(len(t["pieces"]) for t in turns)
            fade = 0.0 if turn["id"] in forgotten else 0.85 ** (len(said) - 1 - n)
            turns.append(
                {"response_id": turn["id"], "pieces": self.shared(f"{turn['query']} {turn['answer']}", start, fade)}
            )
        everything = [p for t in turns for p in t["pieces"]]
        kept = sum(p["share"] > 0 for p in everything)
        return {
            "kind": "retained",
            "num_bytes": 512 * kept,
            "limit": 4096,
            "said": len(everything),
            "kept": kept,
            "turns": turns,
        }

    def shared(self, text: str, start: int, fade: float) -> list[Json]:
        return [
            {"text": piece, "position": start + i, "share": fade * ((start + i) * 7 % 10 + 1) / 10}
            for i, piece in enumerate(pieces_of(text))
        ]

    def reads(self, name: str) -> Json:
        turn = self.turn(name)
        before = sum(len(t["pieces"]) for t in self.memory_after(name)["turns"][:-1])
        return {
            "pieces": [
                {"text": piece, "reads": [[(i * 3 + k) % before, 0.5 / (k + 1)] for k in range(4)]}
                for i, piece in enumerate(pieces_of(turn["answer"]))
            ]
        }

    def export(self, name: str) -> Json:
        return {"format": "fake", "conversation": self.conversation(name), "turns": self.tree(name)["turns"]}

    def load(self, document: Json) -> Json:
        if document.get("format") != "fake":
            raise Refused(400, "this is not an exported conversation: field format is missing")
        made = self.create(document["conversation"]["metadata"])
        names: dict[str | None, str | None] = {None: None}
        for turn in document["turns"]:
            more = {key: turn[key] for key in ("thought", "kind", "status", "feedback")}
            added = self.add(made["id"], names[turn["parent"]], turn["query"], turn["answer"], **more)
            names[turn["id"]] = added["id"]
        self.conversations[made["id"]]["head"] = names[document["conversation"]["head"]]
        return self.public(self.conversations[made["id"]])


class Handler(BaseHTTPRequestHandler):
    """The routes of page_spec.md."""

    protocol_version = "HTTP/1.1"  # connections stay open: the page is many small files
    wbufsize = -1
    store: FakeStore
    query: dict[str, list[str]]

    def do_GET(self) -> None:
        self.handle_request("GET")

    def do_POST(self) -> None:
        self.handle_request("POST")

    def do_DELETE(self) -> None:
        self.handle_request("DELETE")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_request(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            if url.path == "/" or url.path.startswith("/static/"):
                self.send_file(url.path)
            elif url.path == "/health":
                self.send_json(200, {"status": "ok"})
            elif self.headers.get("Authorization") != f"Bearer {KEY}":
                raise Refused(401, "the key is missing or wrong")
            elif (method, url.path) == ("POST", "/v1/responses"):
                self.stream(body)
            else:
                with self.store.lock:
                    self.send_json(200, self.route(method, url.path.removeprefix("/v1/").split("/"), body))
        except Refused as error:
            self.send_json(error.status, {"error": {"message": str(error), "type": "e", "param": None, "code": "e"}})
        except (BrokenPipeError, ConnectionResetError):
            self.store.cancelled += 1

    def route(self, method: str, parts: list[str], body: Json) -> Any:
        store = self.store
        match (method, *parts):
            case ("POST", "conversations"):
                return store.create(body.get("metadata") or {})
            case ("POST", "conversations", name):
                store.conversation(name)["metadata"] = body["metadata"]
                return store.public(store.conversation(name))
            case ("DELETE", "conversations", name):
                store.conversation(name)
                store.turns = {k: v for k, v in store.turns.items() if v["conversation"] != name}
                del store.conversations[name]
                return {"id": name, "object": "conversation.deleted", "deleted": True}
            case ("DELETE", "responses", name):
                store.delete_turn(name, self.query.get("descendants") == ["true"])
                return {"id": name, "object": "response", "deleted": True}
            case (_, "rxlm", *rest):
                return self.route_ours(method, rest, body)
        raise Refused(404, f"no route {self.path}")

    def route_ours(self, method: str, parts: list[str], body: Json) -> Any:
        store = self.store
        match (method, *parts):
            case ("GET", "status"):
                return store.status()
            case ("GET", "conversations"):
                return store.listed(int(self.query.get("limit", ["20"])[0]), self.query.get("after", [None])[0])
            case ("POST", "conversations", "import"):
                return store.load(body)
            case ("GET", "conversations", name, "tree"):
                return store.tree(name)
            case ("GET", "conversations", name, "export"):
                return store.export(name)
            case ("POST", "conversations", name, "head"):
                if body["response_id"] is not None:
                    store.turn(body["response_id"])
                store.conversation(name)["head"] = body["response_id"]
                return store.public(store.conversation(name))
            case ("POST", "feedback"):
                return self.rate(body)
            case (_, "responses", name, what):
                return self.inspect(name, what, body)
        raise Refused(404, f"no route {self.path}")

    def rate(self, body: Json) -> Json:
        feedback = self.store.turn(body["response_id"])["feedback"]
        feedback.update({key: body[key] for key in ("rating", "edit") if key in body})
        self.store.feedback.append(body)
        return {"object": "feedback", "id": self.store.new_id("fb"), **body}

    def inspect(self, name: str, what: str, body: Json) -> Any:
        store = self.store
        turn = store.turn(name)
        if what == "memory":
            return store.memory_after(name)
        if what == "reads":
            return store.reads(name)
        if what == "forget":
            made = store.add(
                turn["conversation"], name, "", "", kind="forget", forgotten=store.turn(body["turn"])["id"]
            )
            return {k: v for k, v in made.items() if k != "conversation"}
        if what == "without":
            asked = body.get("input") or turn["query"]
            return {"answer": f"Answer to {asked}", "answer_without": f"Answer without {len(body['positions'])} tokens"}
        if what == "diff":
            earlier = self.query["earlier"][0]
            return {"lines": [f"- kept only in {earlier}", f"+ kept only in {name}", "  kept in both"], "share": 0.25}
        raise Refused(404, f"no route {self.path}")

    def stream(self, body: Json) -> None:
        store = self.store
        with store.lock:
            store.requests.append(body)
            conversation, query = store.conversation(body["conversation"]), body["input"]
            parent = conversation["head"]
            answer = store.answer_to(query, parent)
        thought = "The question asks me to think." if "think" in query else None
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.number = 0
        name = store.new_id("resp")
        self.event("response.created", response={"id": name, "status": "in_progress"})
        self.event("response.in_progress", response={"id": name, "status": "in_progress"})
        self.wfile.write(b": ping\n\n")
        if thought:
            self.event("response.reasoning_text.delta", delta=thought)
        for piece in re.findall(r"\s*\S+\s*", answer):
            time.sleep(0.05 if "slow" in query else 0.002)
            self.event("response.output_text.delta", delta=piece)
        self.event("response.output_text.done", text=answer)
        with store.lock:
            if parent is None and body.get("instructions"):
                conversation["instructions"] = body["instructions"]
            turn = store.add(conversation["id"], parent, query, answer, thought=thought, id=name)
        self.event("response.completed", response={"id": turn["id"], "status": "completed", "usage": turn["usage"]})
        self.event("rxlm:memory.updated", response_id=turn["id"], num_bytes=1_260_000, seconds=0.031)
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, kind: str, **fields: Any) -> None:
        self.number += 1
        data = json.dumps({"type": kind, "sequence_number": self.number, **fields})
        self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
        self.wfile.flush()

    def send_json(self, status: int, value: Any) -> None:
        self.send_body(status, "application/json", json.dumps(value).encode())

    def send_file(self, path: str) -> None:
        file = PAGE / ("index.html" if path == "/" else path.removeprefix("/static/"))
        if not file.is_file():
            raise Refused(404, f"no file {path}")
        self.send_body(200, TYPES[file.suffix], file.read_bytes())

    def send_body(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)


class QuietServer(ThreadingHTTPServer):
    """Says nothing of browsers that close a connection."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(memory: str = "retained", port: int = 0) -> Iterator[tuple[str, FakeStore]]:
    """Serve a new store on loopback; yield its address and the store."""
    store = FakeStore(memory)
    server = QuietServer(("127.0.0.1", port), type("Handler", (Handler,), {"store": store}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", store
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serve(port=8177) as (address, _):
        print(f"{address}/#key={KEY}")  # noqa: T201
        threading.Event().wait()

"""A hub on loopback: serves folders as repositories to the real huggingface_hub client, and to `datasets`."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def described(repositories: dict[str, Path], asked: str) -> Any:
    """Return what the client asks about a repository, its commit or the files at its top; None: there is no such."""
    repository = next((name for name in repositories if asked.startswith(name)), None)
    if repository is None:
        return None
    files = [file for file in sorted(repositories[repository].iterdir()) if file.is_file()]
    kind, _, place = asked.removeprefix(f"{repository}/").partition("/")
    if kind != "tree":
        names = [{"rfilename": file.name} for file in files]
        return {"id": repository.removeprefix("datasets/"), "sha": COMMIT, "siblings": names, "tags": []}
    if "/" in place:  # a folder in it
        return None
    return [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT} for file in files]


class Hub(BaseHTTPRequestHandler):
    """Answers the clients; `repositories` are folders by id."""

    repositories: dict[str, Path]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.path.startswith("/api/"):
            asked = self.path.removeprefix("/api/").partition("?")[0]
            told = described(self.repositories, asked)
            if told is None:
                self._refuse("EntryNotFound", f"no {asked}")
            else:
                self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
            return
        repository, _, name = self.path.lstrip("/").partition("/resolve/")
        if repository not in self.repositories:
            self._refuse("RepoNotFound", f"no repository {repository}")
            return
        file = self.repositories[repository] / name.partition("/")[2]
        if not file.is_file():
            self._refuse("EntryNotFound", f"no file {file.name}")
            return
        body = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        self._send(206 if last else 200, body[int(first) : int(last) + 1] if last else body, headers)

    def _refuse(self, code: str, message: str) -> None:
        self._send(404, json.dumps({"error": message}).encode(), {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve `{repository id: folder}` and yield the endpoint's address; "datasets/org/name" is the id of a dataset."""
    handler = type("Handler", (Hub,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

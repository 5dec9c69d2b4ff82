"""A server in a thread of the test, over a small model, on a free port."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import SamplingConfig
from rxlm.serving.api.context import Context
from rxlm.serving.app import Limits, make_app
from rxlm.serving.keys import new_api_key
from rxlm.serving.metrics import Metrics
from rxlm.serving.scheduler import Scheduler
from rxlm.serving.service import Service
from rxlm.serving.store.backend import Backend
from rxlm.serving.store.sqlite import SQLiteBackend
from rxlm.serving.store.store import Store
from rxlm.serving.store.tenants import Tenants

REPEATABLE = SamplingConfig(temperature=0.0, repetition_penalty=1.5)


@dataclass
class Running:
    """A server that runs."""

    address: str
    key: str
    context: Context
    opened: ExitStack
    clients: dict[str, openai.OpenAI] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.context.store

    def client(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        if options:
            return self._client(key or self.key, **options)
        return self.clients.get(key or self.key) or self.clients.setdefault(
            key or self.key, self._client(key or self.key)
        )

    def _client(self, key: str, **options: Any) -> openai.OpenAI:
        # A context for TLS takes longer to make than most of these requests.
        own = httpx.Client(verify=False, timeout=60.0)
        made = openai.OpenAI(base_url=f"{self.address}/v1", api_key=key, http_client=own, max_retries=0, **options)
        return self.opened.enter_context(made)

    def http(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return self.opened.enter_context(
            httpx.Client(base_url=self.address, headers=headers, timeout=60.0, verify=False)
        )

    def new_key(self, tenant: str) -> str:
        key = new_api_key()
        self.context.tenants.add_key(self.context.tenants.named(tenant), key)
        return key


def context_over(model: RxTAlpha, backend: Backend, *, stores: bool = True, **options: Any) -> Context:
    model = model.eval()
    model.sampling = REPEATABLE
    tokenizer = model.needed_tokenizer()
    scheduler = Scheduler(model, tokenizer, **{"num_rows": 4, **options})
    store = Store(backend) if stores else None
    service = Service(model, tokenizer, scheduler, store, "tiny")
    return Context(service, Tenants(backend), Metrics(scheduler, store))


@contextmanager
def running(
    model: RxTAlpha,
    place: Path | str = ":memory:",
    *,
    limits: Limits = Limits(drain_seconds=5.0),  # noqa: B008
    change: Callable[[Context], None] | None = None,
    **options: Any,
) -> Iterator[Running]:
    context = context_over(model, SQLiteBackend(place), **options)
    if change is not None:
        change(context)
    config = uvicorn.Config(
        make_app(context, limits), port=0, log_config=None, access_log=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.005)
            if not thread.is_alive():
                raise RuntimeError("The server did not start.")
        port = server.servers[0].sockets[0].getsockname()[1]
        with ExitStack() as opened:
            run = Running(f"http://127.0.0.1:{port}", "", context, opened)
            run.key = run.new_key("default")
            yield run
    finally:
        server.should_exit = True
        thread.join()

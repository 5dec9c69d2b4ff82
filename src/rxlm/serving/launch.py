"""From options to a running server."""

import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import uvicorn

from rxlm.config import require, require_between, require_int
from rxlm.export.engines import describe
from rxlm.export.names import Engine
from rxlm.nn.device import Dtype, device_of
from rxlm.serving.api.context import Context
from rxlm.serving.app import Limits, make_app
from rxlm.serving.keys import key_digest, new_api_key
from rxlm.serving.metrics import Metrics
from rxlm.serving.scheduler import Scheduler
from rxlm.serving.service import Service
from rxlm.serving.stopping import DrainingServer
from rxlm.serving.store.backend import Backend
from rxlm.serving.store.opening import NO_STORE, open_backend, store_beside
from rxlm.serving.store.store import Store
from rxlm.serving.store.tenants import Tenants
from rxlm.upcycling.loading import kind_of, open_model

LOG = logging.getLogger("rxlm.serving")
DEFAULT_TENANT = "default"
SECONDS_BETWEEN_REQUESTS = 75
"""Of a connection, longer than clients keep one (httpx: 5): what they send is lost when both let go at once."""
WAITING_CONNECTIONS = 2048
SECONDS_A_DAY = 86400
MOST, MOST_THREADS = 10**9, 1024
"""Of gigabytes and days, and of threads: beyond it a number was not meant."""
SHORTEST_TURN = 16
"""Tokens that a message and its answer need, at least, beside the form of a turn."""
SECONDS_FOR_LAST_BYTES = 5
"""For sending what is answered, once no answer is under way any more."""


@dataclass(frozen=True)
class Launch:
    """Options of `rxlm serve`, see there."""

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    store: str | None = None
    name: str | None = None
    memory_tokens: int | None = None
    max_seq_len: int | None = None
    rows: int = 16
    waiting: int = 256
    cache_gigabytes: float = 1.0
    store_gigabytes: float = 10.0
    max_age_days: float | None = None
    api_key: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    threads: int | None = None
    device: str = "cpu"
    dtype: Dtype = "auto"
    engine: Engine | None = None
    adapters: Path | None = None
    log_texts: bool = False

    def __post_init__(self) -> None:
        require_int(self, "rows", "waiting", "memory_tokens", "max_seq_len")
        require_int(self, "threads", maximum=MOST_THREADS)
        require_int(self, "port", minimum=0, maximum=65535)
        require_between(self, 0, MOST, "cache_gigabytes", "store_gigabytes", "max_age_days")
        require(self.name != "", "Launch.name must not be empty: clients call the model by it.")
        key = self.api_key
        require(
            key is None or (len(key) >= 16 and key.isascii() and key.isprintable() and key == key.strip()),
            "The API key (--api-key or RXLM_API_KEY) must have 16 characters at least, since who guesses it reads all "
            "conversations, and none but printable characters of ASCII, which a header can hold.",
        )

    @property
    def limits(self) -> Limits:
        """What the application keeps to."""
        seconds = None if self.max_age_days is None else self.max_age_days * SECONDS_A_DAY
        return Limits(memory_bytes=int(self.store_gigabytes * 1e9), max_age=seconds)


def build(options: Launch) -> Context:
    """Load the model and open the store."""
    kind_of(options.model)  # before a file is made for what is no model
    backend: Backend = open_backend(
        ":memory:" if options.store == NO_STORE else options.store or store_beside(options.model)
    )
    try:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        model = open_model(
            options.model,
            memory_tokens=options.memory_tokens,
            device=device_of(options.device),
            dtype=options.dtype,
            engine=options.engine,
            adapters=options.adapters,
        ).eval()
        tokenizer = model.needed_tokenizer()
        form, limit = len(model.tokenizer_config.before_query), model.length_limit(options.max_seq_len)
        require(
            limit >= form + SHORTEST_TURN,
            f"Launch.max_seq_len must be at least {form + SHORTEST_TURN}, {form} of them for the form of a turn, "
            f"got {limit}.",
        )
        scheduler = Scheduler(
            model, tokenizer, num_rows=options.rows, max_waiting=options.waiting, max_seq_len=options.max_seq_len,
            cache_bytes=int(options.cache_gigabytes * 1e9),
        )  # fmt: skip
    except BaseException:
        backend.close()
        raise
    store = None if options.store == NO_STORE else Store(backend)
    path = Path(options.model)
    name = options.name or (path.stem if path.suffix.lower() == ".gguf" else path.name) or options.model
    service = Service(model, tokenizer, scheduler, store, name)
    return Context(service, Tenants(backend), Metrics(scheduler, store), texts_in_log=options.log_texts)


def key_of(context: Context, options: Launch) -> str | None:
    """Return the key of this process alone; None where clients have keys of the store's."""
    key = options.api_key
    if key is None and context.tenants.keys():
        return None
    key = key or new_api_key()
    context.session_keys[key_digest(key)] = context.tenants.named(DEFAULT_TENANT).id
    return key


def launch(options: Launch, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C. `ready` is told the address."""
    listening = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with listening:
        _bind(listening, options.host, options.port)  # before the model is loaded: a port that is taken is told at once
        context = build(options)
        key = key_of(context, options)
        app = make_app(context, options.limits, options.origins)
        host, port = listening.getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}"
        listening.listen(WAITING_CONNECTIONS)  # who reads the address may come before the first request can be answered
        _say(context, address, key, is_given=options.api_key is not None)
        if ready is not None:
            ready(address)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=SECONDS_FOR_LAST_BYTES,
            timeout_keep_alive=SECONDS_BETWEEN_REQUESTS, server_header=False, lifespan="on",
        )  # fmt: skip
        LOG.info("serving %s at %s", context.service.name, address)
        DrainingServer(config, context.service.scheduler, options.limits.drain_seconds).run(sockets=[listening])


def _bind(listening: socket.socket, host: str, port: int) -> None:
    """Take the address to listen at; ValueError where it cannot be had."""
    try:
        listening.bind((host, port))
    except OSError as error:
        raise ValueError(
            f"The server cannot listen at {host}, port {port} ({error.strerror}): choose another --port or --host."
        ) from error


def _say(context: Context, address: str, key: str | None, *, is_given: bool) -> None:
    """Print where the server is; a key that was given is not shown: a service's output is kept in logs."""
    fragment = "" if key is None or is_given else f"/#key={key}"
    shown = (
        f"one of the store's; `rxlm keys add {DEFAULT_TENANT}` makes one for what keys of earlier starts have said"
        if key is None
        else "the one given"
        if is_given
        else key
    )
    lines = [
        f"page      {address}{fragment}",
        f"API base  {address}/v1",
        f"key       {shown}",
        f"model     {context.service.name}",
        f"engine    {describe(context.service.model)}",
        f"store     {'none' if context.service.store is None else getattr(context.tenants.backend, 'path', 'Redis')}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()

"""`rxlm serve`: conversations with a model over HTTP."""

import os
from pathlib import Path
from typing import Annotated

import tyro

from rxlm.export.names import Engine
from rxlm.extras import require_packages
from rxlm.nn.device import Dtype


def serve(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    store: str | None = None,
    name: str | None = None,
    memory_tokens: int | None = None,
    max_seq_len: int | None = None,
    rows: int = 16,
    waiting: int = 256,
    cache_gigabytes: float = 1.0,
    store_gigabytes: float = 10.0,
    max_age_days: float | None = None,
    api_key: str | None = None,
    origins: tuple[str, ...] = (),
    threads: int | None = None,
    device: str = "cpu",
    dtype: Dtype = "auto",
    engine: Engine | None = None,
    adapters: Path | None = None,
    log: Path | None = None,
    log_texts: bool = False,
) -> None:
    """Serve a model by OpenAI's interfaces (responses, conversations, chat completions), with a page to chat.

    Each conversation is stored: its turns, and the memory after them. Answering costs the same in every turn. Programs
    that send the whole history each time work, too: what is stored of it is not read again.

    Prints the addresses and a key. Without keys of its own (`rxlm keys`, --api-key, RXLM_API_KEY), a start makes one
    that is valid until the server stops. SIGTERM and Ctrl-C let answers under way end.

    Args:
        model: folder or hub id of the model, with its tokenizer; or a Llama- or Qwen-style chat model, GGUF files too,
            which then keeps the newest tokens of a conversation (see `rxlm upcycle`).
        host: address to listen at; 0.0.0.0: all of this machine.
        port: port to listen at; 0: a free one.
        store: where conversations are: a file (SQLite), redis://..., or none; conversations.sqlite beside the model if
            not given.
        name: what clients call the model; its folder's name if not given.
        memory_tokens: tokens that a memory of tokens keeps of a conversation; as many as the model says if not given.
        max_seq_len: tokens of message and answer together; the model's limit if not given.
        rows: answers at a time.
        waiting: answers that may wait; more are refused with 429.
        cache_gigabytes: memories in this process.
        store_gigabytes: memories in the store; those that were used longest ago go, and are computed again when needed.
        max_age_days: days after which turns that nobody used are deleted; never if not given.
        api_key: a key that clients may use, besides those of `rxlm keys`; RXLM_API_KEY if not given.
        origins: pages of other servers that may ask (CORS).
        threads: threads that compute; PyTorch's choice if not given.
        device: where to compute: cpu, cuda, cuda:1, ...
        dtype: type of the weights, see `rxlm chat`.
        engine: what computes the model on a CPU, see `rxlm chat`.
        adapters: folder of adapters (LoRA), see `rxlm chat`.
        log: file for the log, a JSON object a line; standard error if not given.
        log_texts: let the log have what is said, which it has not otherwise.
    """
    require_packages("A server", "serve", "fastapi", "uvicorn", "pydantic", "prometheus_client")
    from rxlm.serving import logs
    from rxlm.serving.launch import Launch, launch

    logs.install(log)
    launch(
        Launch(
            model=model,
            host=host,
            port=port,
            store=store,
            name=name,
            memory_tokens=memory_tokens,
            max_seq_len=max_seq_len,
            rows=rows,
            waiting=waiting,
            cache_gigabytes=cache_gigabytes,
            store_gigabytes=store_gigabytes,
            max_age_days=max_age_days,
            api_key=api_key or os.environ.get("RXLM_API_KEY"),
            origins=origins,
            threads=threads,
            device=device,
            dtype=dtype,
            engine=engine,
            adapters=adapters,
            log_texts=log_texts,
        )
    )

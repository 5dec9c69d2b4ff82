"""What every answer does, whatever its form: it is counted, its budget noted, and its turn stored before its end."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from rxlm.serving.answers import Answer
from rxlm.serving.api.context import Context
from rxlm.serving.api.errors import ApiError
from rxlm.serving.asking import Failed, Finished, Written
from rxlm.serving.memories import Making

LOG = logging.getLogger("rxlm.serving.answers")
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass
class Usage:
    """Tokens of an answer.

    Fields:
        read: tokens that had to be read: the query, and turns that no memory stood for. cached: those that one did.
        written: tokens of the answer with its thought; thought: of the thought.
    """

    read: int
    cached: int
    written: int = 0
    thought: int = 0

    @classmethod
    def of(cls, answer: Answer) -> "Usage":
        """Return it before anything is written."""
        place = answer.place
        return cls(answer.num_query_tokens + place.read, max(0, place.tokens - place.read))

    @property
    def as_response(self) -> dict[str, Any]:
        """The form of responses."""
        return {
            "input_tokens": self.read + self.cached,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": 0},
            "output_tokens": self.written,
            "output_tokens_details": {"reasoning_tokens": self.thought},
            "total_tokens": self.read + self.cached + self.written,
        }

    @property
    def as_completion(self) -> dict[str, Any]:
        """The form of chat completions."""
        return {
            "prompt_tokens": self.read + self.cached,
            "completion_tokens": self.written,
            "total_tokens": self.read + self.cached + self.written,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.thought, "audio_tokens": 0},
        }


@dataclass
class Token:
    """A token of an answer, with its log-probability."""

    text: str
    log_prob: float

    @property
    def shown(self) -> dict[str, Any]:
        """Its form in both interfaces."""
        return {"token": self.text, "logprob": self.log_prob, "bytes": list(self.text.encode()), "top_logprobs": []}


@dataclass
class Progress:
    """What is known of an answer so far.

    Fields:
        answer, usage: see there. text, thought: so far. tokens: where log-probabilities were asked for.
        reason: why it ended, once it has. finished: the scheduler's last word.
    """

    answer: Answer
    usage: Usage
    text: str = ""
    thought: str | None = None
    tokens: list[Token] = field(default_factory=list)
    reason: str | None = None
    finished: Finished | None = None


@dataclass
class Delta:
    """What one step added: `text` to the answer or to the thought, and the token."""

    text: str = ""
    thought: str = ""
    tokens: list[Token] = field(default_factory=list)


Keep = Callable[[Finished], None]
"""Stores a finished turn; blocks."""


async def write(context: Context, progress: Progress, keep: Keep) -> AsyncGenerator[Delta]:
    """Yield what is written of an answer; its turn is stored once it is complete. Raises what went wrong."""
    answer, usage, metrics = progress.answer, progress.usage, context.metrics
    context.budgets.use(answer.tenant, usage.read)
    metrics.prompt_tokens.inc(usage.read)
    metrics.cached_tokens.inc(usage.cached)
    is_first = True
    try:
        async with aclosing(context.service.events(answer)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error
                if is_first:
                    metrics.first_token.observe(time.monotonic() - answer.asked.since)
                    is_first = False
                if isinstance(event, Written):
                    usage.written += 1
                delta = _delta(context, progress, event)
                if isinstance(event, Finished):
                    progress.reason, progress.finished = event.reason, event
                    await _whole(run_in_threadpool(keep, event))
                    event.after.then(lambda made: metrics.update.observe(made.seconds))
                    _log(context, progress)
                if delta.text or delta.thought or delta.tokens:
                    yield delta
    finally:
        metrics.generated_tokens.inc(usage.written)
        metrics.finished.labels(progress.reason or "abort").inc()
        metrics.whole.observe(time.monotonic() - answer.asked.since)
        context.budgets.use(answer.tenant, usage.written)


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work that is done or not done: who is cancelled meanwhile is so after it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _log(context: Context, progress: Progress) -> None:
    """Note a complete answer; what was said only where the server was told so."""
    answer, usage = progress.answer, progress.usage
    line: dict[str, Any] = {
        "response": answer.id, "tenant": answer.tenant.name, "read": usage.read, "cached": usage.cached,
        "written": usage.written, "reason": progress.reason,
    }  # fmt: skip
    if context.texts_in_log:
        line |= {"query": answer.query, "answer": progress.text}
    LOG.info("%s", json.dumps(line, ensure_ascii=False))


def _delta(context: Context, progress: Progress, event: Written | Finished) -> Delta:
    delta = Delta()
    for piece in event.pieces:
        if piece.is_thought:
            delta.thought += piece.text
        else:
            delta.text += piece.text
    if delta.thought:
        progress.thought = (progress.thought or "") + delta.thought
        progress.usage.thought = progress.usage.written
    progress.text += delta.text
    if isinstance(event, Written) and event.log_prob is not None:
        service = context.service
        if event.token != service.scheduler.engine.tokens.eos_token_id:
            delta.tokens.append(Token(str(service.tokenizer.decode([event.token])), event.log_prob))
            progress.tokens += delta.tokens
    return delta


async def while_connected(request: Request, work: "asyncio.Task[Any]") -> Any:
    """Return what `work` returns; it is cancelled when the client is gone."""
    try:
        while not work.done():
            await asyncio.wait([work], timeout=SECONDS_BETWEEN_LOOKS)
            if not work.done() and await request.is_disconnected():
                raise ApiError(408, "The client is gone.")
        return work.result()
    finally:
        work.cancel()


async def memory_of(making: Making, seconds: float) -> Making | None:
    """Return a memory once it is there, None where that takes longer."""
    loop, there = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: Making) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(there.set)

    making.then(tell)
    try:
        await asyncio.wait_for(there.wait(), seconds)
    except TimeoutError:
        return None
    return making

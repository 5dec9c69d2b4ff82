"""`/v1/chat/completions`: programs send the whole conversation each time, and what is known of it is found again."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from rxlm.serving.answers import Answer
from rxlm.serving.api import documents
from rxlm.serving.api.answering import Delta, Progress, Token, Usage, while_connected, write
from rxlm.serving.api.context import Caller, Context, Server, check_budget, check_model, is_stored, options_of
from rxlm.serving.api.documents import answers
from rxlm.serving.api.errors import ApiError, error_of
from rxlm.serving.api.items import Sent
from rxlm.serving.api.requests import ChatRequest
from rxlm.serving.api.streams import stream
from rxlm.serving.asking import Finished
from rxlm.serving.keys import new_id
from rxlm.serving.lengths import TooLongError
from rxlm.serving.store.records import Tenant

router = APIRouter(prefix="/v1/chat/completions", tags=["chat completions"])


@router.post("", response_model=None, responses=answers(documents.Completion, streams=True))
async def create(request: Request, context: Server, tenant: Caller, given: ChatRequest) -> Response:
    """Answer the last message of a conversation."""
    sent = Sent(given.messages, "messages")
    place, options = await run_in_threadpool(_prepare, context, tenant, given, sent)
    name = new_id("chatcmpl-")
    names = [name] + [new_id("chatcmpl-") for _ in range((given.n or 1) - 1)]
    metadata = given.metadata or {}
    answers: list[Answer] = []

    def leave() -> None:
        for answer in answers:
            context.service.scheduler.cancel(answer.asked)

    try:
        for number, each in enumerate(names):
            own = options if options.seed is None or not number else options.with_seed(options.seed + number)
            # Further choices have no id of their own by which a client could delete them.
            at = place if not number else replace(place, stored=False)
            answers.append(context.service.ask(tenant, at, sent.needed_query, own, each))
    except BaseException:
        leave()
        raise
    base = {
        "id": name,
        "created": int(time.time()),
        "model": context.service.name,
        "system_fingerprint": context.system,
    }
    progresses = [Progress(answer, Usage.of(answer)) for answer in answers]
    if given.stream:
        include_usage = given.stream_options is not None and bool(given.stream_options.include_usage)
        return stream(_Chunks(context, base, progresses, metadata, include_usage).all(), context.ping_seconds, leave)
    await while_connected(request, asyncio.create_task(_all(context, progresses, metadata)))
    body = {
        **base, "object": "chat.completion", "service_tier": "default", "usage": _total(progresses).as_completion,
        "choices": [_choice(index, progress, bool(given.logprobs)) for index, progress in enumerate(progresses)],
    }  # fmt: skip
    return JSONResponse(body)


def _prepare(context: Context, tenant: Tenant, given: ChatRequest, sent: Sent) -> Any:
    check_model(context, given.model)
    stored = is_stored(context, given.store)
    check_budget(context, tenant, stored=stored)
    _ = sent.needed_query
    options = options_of(
        context, given, max_tokens=given.max_completion_tokens or given.max_tokens, stop=given.stop,
        effort=given.reasoning_effort, log_probs=bool(given.logprobs), effort_param="reasoning_effort",
    )  # fmt: skip
    try:
        context.service.lengths.check(sent.needed_query)
        return context.service.after_turns(tenant, sent.instructions, sent.turns, stored=stored), options
    except TooLongError as error:
        raise ApiError(400, str(error), param="messages", code="context_length_exceeded") from error


def _keep(context: Context, progress: Progress, metadata: Mapping[str, str]) -> Any:
    def keep(finished: Finished) -> None:
        status = "completed" if finished.reason == "stop" else "incomplete"
        shown = {"status": status, "usage": progress.usage.as_response, "metadata": dict(metadata)}
        context.service.keep(progress.answer, finished, shown)

    return keep


async def _all(context: Context, progresses: list[Progress], metadata: Mapping[str, str]) -> None:
    async def one(progress: Progress) -> None:
        async for _ in write(context, progress, _keep(context, progress, metadata)):
            pass

    try:
        async with asyncio.TaskGroup() as group:
            for progress in progresses:
                group.create_task(one(progress))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


class _Chunks:
    """The stream of a completion: chunks of all choices as they come, and the usage at the end where it is wanted."""

    def __init__(
        self, context: Context, base: dict[str, Any], progresses: list[Progress], metadata: Mapping[str, str],
        include_usage: bool,
    ) -> None:  # fmt: skip
        self.context, self.progresses, self.include_usage = context, progresses, include_usage
        self.metadata = metadata
        self.base: dict[str, Any] = {**base, "object": "chat.completion.chunk"}
        self.coming: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue()

    async def all(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield the chunks; answers that are not complete end where the client leaves."""
        tasks = [asyncio.create_task(self._write(index)) for index in range(len(self.progresses))]
        try:
            for index in range(len(tasks)):
                yield self._chunk(index, {"role": "assistant", "content": ""})
            left = len(tasks)
            while left:
                index, delta = await self.coming.get()
                if isinstance(delta, Exception):
                    yield error_of(delta).body
                    return
                left -= delta is None
                for chunk in self._of(index, delta):
                    yield chunk
            if self.include_usage:
                yield {**self.base, "choices": [], "usage": _total(self.progresses).as_completion}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, index: int) -> None:
        progress = self.progresses[index]
        try:
            async for delta in write(self.context, progress, _keep(self.context, progress, self.metadata)):
                self.coming.put_nowait((index, delta))
            self.coming.put_nowait((index, None))
        except Exception as error:
            self.coming.put_nowait((index, error))

    def _of(self, index: int, delta: Delta | None) -> Iterator[dict[str, Any]]:
        if delta is None:
            yield self._chunk(index, {}, self.progresses[index].reason)
            return
        if delta.thought:
            yield self._chunk(index, {"reasoning_content": delta.thought})
        if delta.text or delta.tokens:
            shown = [token.shown for token in delta.tokens]
            yield self._chunk(
                index, {"content": delta.text}, tokens={"content": shown, "refusal": None} if shown else None
            )

    def _chunk(
        self, index: int, delta: dict[str, Any], reason: str | None = None, tokens: Any = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": tokens, "finish_reason": reason}
        return {**self.base, "choices": [choice], **({"usage": None} if self.include_usage else {})}


def _choice(index: int, progress: Progress, log_probs: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": progress.text, "refusal": None, "annotations": []}
    if progress.thought is not None:
        message["reasoning_content"] = progress.thought
    tokens = _log_probs(progress.tokens) if log_probs else None
    return {"index": index, "message": message, "finish_reason": progress.reason, "logprobs": tokens}


def _total(progresses: list[Progress]) -> Usage:
    """Return the usage of all choices: what was read counts once."""
    first = progresses[0].usage
    written, thought = (sum(getattr(each.usage, name) for each in progresses) for name in ("written", "thought"))
    return Usage(first.read, first.cached, written, thought)


def _log_probs(tokens: list[Token]) -> dict[str, Any]:
    return {"content": [token.shown for token in tokens], "refusal": None}

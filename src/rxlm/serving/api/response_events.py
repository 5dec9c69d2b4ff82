"""The events of a response, in the order that OpenAI's clients expect."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from rxlm.serving.api.answering import Delta, Progress, Usage, memory_of, write
from rxlm.serving.api.errors import error_of
from rxlm.serving.api.items import answer_item, item_id, text_part, thought_item
from rxlm.serving.api.reply import Reply

Event = dict[str, Any]
SECONDS_FOR_MEMORY = 30.0


class _Numbered:
    """Makes events, and numbers them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, kind: str, **values: Any) -> Event:
        self.count += 1
        return {"type": kind, "sequence_number": self.count - 1, **values}


async def events_of(reply: Reply, with_memory: bool) -> AsyncGenerator[Event]:
    """Yield the events of a response; nothing is remembered where the client leaves before the end."""
    assert reply.answer is not None
    event, progress = _Numbered(), Progress(reply.answer, Usage.of(reply.answer))
    output = _Output(event, reply)
    try:
        yield event("response.created", response=reply.body())
        if reply.shown["status"] == "queued":
            yield event("response.queued", response=reply.body())
            reply.shown["status"] = "in_progress"
        yield event("response.in_progress", response=reply.body())
        async for delta in write(reply.context, progress, lambda finished: reply.keep(progress, finished)):
            for each in output.more(delta):
                yield each
        for each in output.end():
            yield each
        yield event(f"response.{reply.shown['status']}", response=reply.body(progress))
        if with_memory and progress.finished is not None:
            made = await memory_of(progress.finished.after, SECONDS_FOR_MEMORY)
            if made is not None and made.state is not None:
                values = {"response_id": reply.id, "num_bytes": made.state.num_bytes, "seconds": made.seconds}
                yield event("rxlm:memory.updated", **values)
    except Exception as error:
        reply.error = error_of(error)
        reply.ending = {"status": "failed", "error": {"code": "server_error", "message": reply.error.message}}
        yield event("response.failed", response={**reply.body(), **reply.ending})
    finally:
        reply.release()


class _Output:
    """The items of a response: the thought, where there is one, and the answer."""

    def __init__(self, event: _Numbered, reply: Reply) -> None:
        self.event, self.reply = event, reply
        self.open: _Item | None = None
        self.count = 0

    def more(self, delta: Delta) -> Iterator[Event]:
        if delta.thought:
            yield from self._let_begin(is_thought=True)
            assert self.open is not None
            yield self.open.more(delta.thought, delta)
        if delta.text or delta.tokens:
            yield from self._let_begin(is_thought=False)
            assert self.open is not None
            yield self.open.more(delta.text, delta)

    def end(self) -> Iterator[Event]:
        yield from self._let_begin(is_thought=False)  # an answer without a word is an item, too
        assert self.open is not None
        yield from self.open.end(self.reply.shown["status"])

    def _let_begin(self, *, is_thought: bool) -> Iterator[Event]:
        if self.open is not None and self.open.is_thought == is_thought:
            return
        if self.open is not None:
            yield from self.open.end("completed")
        name = item_id(self.reply.id, "h" if is_thought else "a")
        self.open = _Item(self.event, name, self.count, is_thought=is_thought)
        self.count += 1
        yield from self.open.begin()


class _Item:
    """The events of one item of the output."""

    def __init__(self, event: _Numbered, name: str, index: int, *, is_thought: bool) -> None:
        self.event, self.name, self.index, self.is_thought = event, name, index, is_thought
        self.text = ""
        self.tokens: list[Mapping[str, Any]] = []
        self.kind = "reasoning_text" if is_thought else "output_text"
        self.place = {"item_id": name, "output_index": index, "content_index": 0}

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        if self.is_thought:
            return thought_item(self.name, text, status)
        return answer_item(self.name, text, status, self.tokens)

    def _part(self) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": self.text} if self.is_thought else text_part(self.text, self.tokens)

    def begin(self) -> list[dict[str, Any]]:
        item = self._item(None, "in_progress")
        return [
            self.event("response.output_item.added", output_index=self.index, item=item),
            self.event("response.content_part.added", **self.place, part=self._part()),
        ]

    def more(self, text: str, delta: Delta) -> dict[str, Any]:
        self.text += text
        if self.is_thought:
            return self.event("response.reasoning_text.delta", **self.place, delta=text)
        tokens = [token.shown for token in delta.tokens]
        self.tokens += tokens
        return self.event("response.output_text.delta", **self.place, delta=text, logprobs=tokens)

    def end(self, status: str) -> list[dict[str, Any]]:
        logprobs = {} if self.is_thought else {"logprobs": self.tokens}
        return [
            self.event(f"response.{self.kind}.done", **self.place, text=self.text, **logprobs),
            self.event("response.content_part.done", **self.place, part=self._part()),
            self.event("response.output_item.done", output_index=self.index, item=self._item(self.text, status)),
        ]

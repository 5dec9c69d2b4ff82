"""From a request to an answer: where it goes on from, and what clients see of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rxlm.serving.answers import Answer, Options, Place
from rxlm.serving.api.answering import Progress
from rxlm.serving.api.context import Context, check_budget, check_model, is_stored, options_of
from rxlm.serving.api.errors import ApiError, not_found
from rxlm.serving.api.items import Sent, joined, output_of, parts_of
from rxlm.serving.api.requests import ResponseRequest
from rxlm.serving.asking import Finished
from rxlm.serving.keys import new_id
from rxlm.serving.store.records import Node, StoredConversation, Tenant

ROOM_FOR_ANSWER = 64
"""Tokens that a message which is read in pieces leaves for the answer."""


@dataclass
class Reply:
    """A response under way.

    Fields:
        shown: the response as clients see it, without its output. asked: how it is answered.
        conversation: which it belongs to. messages: those that were added to it before and are answered now, too.
    """

    context: Context
    tenant: Tenant
    shown: dict[str, Any]
    query: str
    place: Place
    options: Options
    conversation: StoredConversation | None = None
    messages: Sequence[Mapping[str, Any]] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    error: ApiError | None = None
    answer: Answer | None = None
    ending: dict[str, Any] = field(default_factory=dict)
    """What is shown of a response that came to nothing."""

    @property
    def id(self) -> str:
        """The response's id."""
        return self.shown["id"]

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.shown["status"] not in ("queued", "in_progress")

    def ask(self) -> None:
        """Let the answer be written."""
        whole = self.shown.pop("input")
        self.answer = self.context.service.ask(self.tenant, self.place, self.query, self.options, self.id, whole)

    def keep(self, progress: Progress, finished: Finished) -> None:
        """Store the turn, and let the conversation go on from it."""
        answer = self.answer
        assert answer is not None
        ended = finished.reason == "stop"
        shown = {
            **self.shown,
            "status": "completed" if ended else "incomplete",
            "completed_at": int(time.time()) if ended else None,
            "incomplete_details": None if ended else {"reason": "max_output_tokens"},
        }
        before, after = self.conversation, None
        if before is not None:
            now = self.context.store.conversation(self.tenant.id, before.id)
            said = len(before.waiting)
            if now is not None and now.head == before.head and now.waiting[:said] == before.waiting:
                before = now  # what was changed meanwhile, metadata or messages that came, stays
            after = replace(
                before, head=self.id, root=self.place.node.root, updated=time.time(), waiting=before.waiting[said:],
                instructions=self.shown["instructions"],
            )  # fmt: skip
        stored = {**shown, "usage": progress.usage.as_response}
        if progress.tokens:
            stored["logprobs"] = [token.shown for token in progress.tokens]
        self.context.service.keep(answer, finished, stored, after, before, self.messages)
        self.shown |= shown  # is over for others once it is stored

    def leave(self) -> None:
        """Let an answer that is not complete end, and the conversation take another message."""
        if self.answer is not None:
            self.context.service.scheduler.cancel(self.answer.asked)
        self.release()

    def release(self) -> None:
        """Let the conversation take another message."""
        if self.conversation is not None:
            self.context.busy_conversations.discard((self.tenant.id, self.conversation.id))

    def body(self, progress: Progress | None = None) -> dict[str, Any]:
        """Return the response with its output so far."""
        if progress is None or progress.reason is None:
            return {**self.shown, "output": []}
        tokens = [token.shown for token in progress.tokens]
        status = self.shown["status"]
        output = output_of(self.id, progress.text, progress.thought, status, tokens)
        return {**self.shown, "output": output, "usage": progress.usage.as_response}


def prepare(context: Context, tenant: Tenant, given: ResponseRequest) -> Reply:
    """Find where an answer goes on from."""
    check_model(context, given.model)
    stored = is_stored(context, given.store)
    check_budget(context, tenant, stored=stored)
    if given.background and not stored:
        raise ApiError(400, "background needs store=true.", param="background")
    if given.input is None:
        raise ApiError(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    options = _options(context, given)
    asked = question_of(context, tenant, given, stored=stored)
    root = None
    if asked.instructions is None and stored:
        root = context.store.node(tenant.id, asked.place.node.root)
    kept = asked.instructions if root is None else root.instructions
    shown = _shown(context, given, options, kept, asked.conversation)
    reply = Reply(context, tenant, shown, asked.query, asked.place, options, asked.conversation, asked.messages)
    reply.shown["input"] = asked.whole
    return reply


def num_tokens(context: Context, tenant: Tenant, given: ResponseRequest) -> int:
    """Return how many tokens a request would read."""
    options, stored = _options(context, given), is_stored(context, given.store)
    asked = question_of(context, tenant, given, stored=stored, makes=False)
    return context.service.num_tokens(asked.place, asked.query, options) if asked.query.strip() else asked.place.tokens


def _options(context: Context, given: ResponseRequest) -> Options:
    return options_of(
        context, given, max_tokens=given.max_output_tokens, stop=given.stop,
        effort=None if given.reasoning is None else given.reasoning.effort,
        log_probs="message.output_text.logprobs" in (given.include or ()),
    )  # fmt: skip


class Question(NamedTuple):
    """What is to be answered, and where.

    Fields:
        query: the text, or its last piece; `whole`: all of it. messages: what it is made of where messages waited.
        instructions: those that the request or its conversation has.
    """

    place: Place
    query: str
    whole: str
    messages: tuple[Mapping[str, Any], ...]
    instructions: str | None
    conversation: StoredConversation | None


def question_of(
    context: Context, tenant: Tenant, given: ResponseRequest, *, stored: bool, makes: bool = True
) -> Question:  # fmt: skip
    """Find what a request asks; with `makes` false nothing is read, and it may ask nothing."""
    sent = Sent(given.input or "", "input")
    instructions = given.instructions if given.instructions is not None else sent.instructions
    conversation, head = head_of(context, tenant, given)
    query, messages = sent.query, parts_of((), None)
    if conversation is not None:
        if not stored:
            raise ApiError(400, "A response of a conversation is stored: store must not be false.", param="store")
        if conversation.waiting:
            messages = parts_of(conversation.waiting, query)
            query = joined(messages)
        if instructions is None:
            instructions = conversation.instructions
    if makes and (query is None or not query.strip()):
        query = sent.needed_query
    service, name = context.service, None if conversation is None else conversation.id
    root = None if head is None else context.store.node(tenant.id, head.root)
    options: dict[str, Any] = {"stored": stored, "makes": makes}
    if head is None:
        place = service.after_turns(tenant, instructions, sent.turns, conversation=name, **options)
    elif instructions is not None and root is not None and instructions != root.instructions:
        place = service.again(tenant, instructions, head, sent.turns, conversation=name, **options)
    else:
        place = service.read(service.after_node(tenant, head, **options), sent.turns, name)
    whole = query = query or ""
    if given.truncation == "auto":
        room = min(ROOM_FOR_ANSWER, service.lengths.limit // 4)
        place, query = service.in_pieces(place, query, room)
    return Question(place, query, whole, messages, instructions, conversation)


def head_of(
    context: Context, tenant: Tenant, given: ResponseRequest
) -> tuple[StoredConversation | None, Node | None]:  # fmt: skip
    """Return the conversation that a request names, and the turn that it goes on from; None where there is none."""
    if given.previous_response_id is not None and given.conversation is not None:
        raise ApiError(400, "Give previous_response_id or conversation, not both.", param="conversation")
    if given.conversation_id is not None:
        conversation = context.store.conversation(tenant.id, given.conversation_id)
        if conversation is None:
            raise not_found("Conversation", given.conversation_id, "conversation")
        return conversation, None if conversation.head is None else node_of(context, tenant, conversation.head)
    previous = given.previous_response_id
    return None, None if previous is None else node_of(context, tenant, previous)


def node_of(context: Context, tenant: Tenant, name: str) -> Node:
    """Return the turn that a response was; an error where there is none."""
    node = context.store.node(tenant.id, name)
    if node is None or node.kind == "root":
        message = f"Previous response with id '{name[:80]}' not found."
        raise ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
    return node


def _shown(
    context: Context, given: ResponseRequest, options: Options, instructions: str | None,
    conversation: StoredConversation | None,
) -> dict[str, Any]:  # fmt: skip
    effort = None if given.reasoning is None else given.reasoning.effort
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "queued" if given.background else "in_progress",
        "background": bool(given.background),
        "error": None,
        "incomplete_details": None,
        "instructions": instructions,
        "max_output_tokens": given.max_output_tokens,
        "model": context.service.name,
        "parallel_tool_calls": given.parallel_tool_calls is not False,
        "previous_response_id": given.previous_response_id,
        "conversation": None if conversation is None else {"id": conversation.id},
        "reasoning": {"effort": effort, "summary": None},
        "service_tier": "default",
        "store": given.store is not False and context.service.store is not None,
        "temperature": options.sampling.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": given.tool_choice or "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0 if options.sampling.top_p is None else options.sampling.top_p,
        "truncation": given.truncation or "disabled",
        "usage": None,
        "user": given.user,
        "metadata": given.metadata or {},
    }

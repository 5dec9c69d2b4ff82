"""What the OpenAPI document says of answers: their forms, and that all errors have one."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Open(BaseModel):
    """An answer; OpenAI's reference says more of it than this."""

    model_config = ConfigDict(extra="allow")


class ErrorDetails(BaseModel):
    """What went wrong: for people, for programs, and which parameter it is about."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """An error."""

    error: ErrorDetails


class Item(_Open):
    """A message, or a thought."""

    id: str
    type: Literal["message", "reasoning"]
    status: str
    content: list[dict[str, Any]]


class Items(_Open):
    """A page of items."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Conversation(BaseModel):
    """A conversation."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class Deleted(BaseModel):
    """That something is no longer there."""

    id: str
    object: Literal["response", "conversation.deleted"]
    deleted: Literal[True]


class Response(_Open):
    """A response."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    model: str
    output: list[Item]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: dict[str, Any] | None
    metadata: dict[str, str]


class InputTokens(BaseModel):
    """How many tokens a request would read."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class Choice(_Open):
    """An answer of a completion."""

    index: int
    message: dict[str, Any]
    finish_reason: Literal["stop", "length"]


class Completion(_Open):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, Any]


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class Health(BaseModel):
    """That the server answers."""

    status: Literal["ok"]
    running: int
    waiting: int


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What the client did wrong, or has to wait for."},
    "5XX": {"model": ErrorBody, "description": "What the server cannot do."},
}


def answers(form: type[BaseModel], *, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return what the document says of a good answer, which may come as server-sent events."""
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    described = {"model": form, "description": form.__doc__ or ""}
    return {200: {**described, **({"content": events} if streams else {})}}

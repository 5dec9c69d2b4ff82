"""What clients may send. What the server cannot do is refused by name, and nothing is ignored that would change it."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
StopText = Annotated[str, Field(min_length=1, max_length=200)]
Stop = Annotated[list[StopText], Field(max_length=16)]
"""Texts that end an answer."""
Label = Annotated[str, Field(max_length=512)]
Text = Annotated[str, Field(max_length=4_000_000)]


def _form(value: Any) -> str | None:
    """Return the form of a JSON value as tags of unions name it; None for one that no union here takes."""
    if isinstance(value, BaseModel):
        return "(object)"
    return next(
        (tag for kind, tag in ((str, "(text)"), (list, "(list)"), (dict, "(object)")) if isinstance(value, kind)), None
    )


def _one_of(allowed: str) -> Discriminator:
    """Return what chooses a union's kind by the form of the value, so that an error is about the form that was sent."""
    return Discriminator(_form, custom_error_type="union", custom_error_message=f"must be {allowed}")


def _kind_of_item(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "(reasoning)" if kind == "reasoning" else "(message)"


class Strict(BaseModel):
    """A request that has no unknown fields; those that are null, empty or false say nothing."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), allow_inf_nan=False, strict=True,
        json_schema_extra=lambda schema, cls: cls._describe(schema),
    )  # fmt: skip
    unsupported: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _describe(cls, schema: dict[str, Any]) -> None:
        """Let the document say what `_refuse` does."""
        empty = {"enum": [None, [], {}, False, 0, "none"], "description": "Not supported."}
        schema.setdefault("properties", {}).update(dict.fromkeys(cls.unsupported, empty))
        if schema.get("additionalProperties") is False:
            schema["additionalProperties"] = {"type": "null"}

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name in cls.unsupported:
            if values.get(name) not in (None, [], {}, False, "none"):
                raise PydanticCustomError("unsupported", "'{name}' is not supported by this server", {"name": name})
        values = {name: int(value) if _is_whole(value) else value for name, value in values.items()}
        return {name: value for name, value in values.items() if name in cls.model_fields or (value is not None
                and name not in cls.unsupported)}  # fmt: skip


def _is_whole(value: Any) -> bool:
    """Whether it is a whole number that was written with a point, as some languages write all numbers."""
    return isinstance(value, float) and value.is_integer()


class Part(Strict):
    """A part of a message's content; only text can be read."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["input_text", "output_text", "text", "refusal"]
    text: Text = ""
    refusal: Text | None = None


class Message(Strict):
    """A message of a conversation."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: (
        Annotated[
            Annotated[Text, Tag("(text)")] | Annotated[list[Part], Tag("(list)")],
            _one_of("a text, or a list of parts with texts"),
        ]
        | None
    )
    reasoning_content: Text | None = None

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.refusal or part.text for part in self.content or ())


class Reasoning(Strict):
    """A thought that a client sends back; it is left out."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["reasoning"]


Item = Annotated[
    Annotated[Message, Tag("(message)")] | Annotated[Reasoning, Tag("(reasoning)")], Discriminator(_kind_of_item)
]
Stops = Annotated[
    Annotated[StopText, Tag("(text)")] | Annotated[Stop, Tag("(list)")], _one_of("a text, or a list of texts")
]
Included = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]


class Sampling(Strict):
    """How an answer is sampled; what is not given is as the model says. Beyond OpenAI's: top_k to seed, as in vLLM."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.001, le=1000)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None


class TextFormat(Strict):
    """The form of an answer: text."""

    type: Literal["text"] = "text"


class TextOptions(Strict):
    """Options of an answer's text."""

    unsupported = ("verbosity",)
    format: TextFormat | None = None


class ReasoningOptions(Strict):
    """Whether a model that can thinks before it answers."""

    unsupported = ("summary", "generate_summary")
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class ConversationName(Strict):
    """A conversation by its id."""

    id: str


class ResponseStreamOptions(Strict):
    """Options of a stream."""

    include_obfuscation: bool | None = None


class ResponseRequest(Sampling):
    """`POST /v1/responses`."""

    unsupported = (
        "prompt", "max_tool_calls", "context_management", "moderation", "image", "access_programs",
        "background_options", "top_logprobs", "tools",
    )  # fmt: skip
    model: str | None = None
    input: (
        Annotated[
            Annotated[Text, Tag("(text)")] | Annotated[list[Item], Tag("(list)")],
            _one_of("a text, or a list of messages"),
        ]
        | None
    ) = None
    instructions: Text | None = None
    previous_response_id: str | None = None
    conversation: (
        Annotated[
            Annotated[str, Tag("(text)")] | Annotated[ConversationName, Tag("(object)")],
            _one_of("an id, or an object with an id"),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: Metadata | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[Included] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    stop: Stops | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    service_tier: Literal["auto", "default"] | None = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation's id."""
        return self.conversation.id if isinstance(self.conversation, ConversationName) else self.conversation


class NewConversation(Strict):
    """`POST /v1/conversations`."""

    metadata: Metadata | None = None
    items: Annotated[list[Item], Field(max_length=20)] | None = None


class ChangedConversation(Strict):
    """`POST /v1/conversations/{id}`."""

    metadata: Metadata


class NewItems(Strict):
    """`POST /v1/conversations/{id}/items`."""

    items: Annotated[list[Item], Field(min_length=1, max_length=20)]


class StreamOptions(Strict):
    """Options of a stream of chat completions."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatMessage(Message):
    """A message of a chat; what tools say is text to the model."""

    unsupported = ("tool_calls", "function_call", "audio")
    role: Literal["user", "assistant", "system", "developer", "tool"]  # type: ignore[assignment]


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    unsupported = (
        "tools", "functions", "function_call", "audio", "logit_bias", "prediction", "web_search_options",
        "moderation", "presence_penalty", "frequency_penalty", "top_logprobs", "verbosity",
    )  # fmt: skip
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: Stops | None = None
    logprobs: bool | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    service_tier: Literal["auto", "default"] | None = None

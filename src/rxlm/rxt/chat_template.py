"""The form of a conversation's turns, read from the chat template of a pretrained language model's tokenizer."""

from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from rxlm.data.chat_rendering import ChatTemplateError, render_chat
from rxlm.data.templates import interaction_ids
from rxlm.rxt.config import RxTAlphaTokenizerConfig

_QUERY, _ANSWER = "What is told", "What is answered"  # looked for in what the template writes, see `_absent`


class _Written(NamedTuple):
    """What a template writes around the texts of a conversation."""

    before_first: str
    between: str
    before_answer: str
    after_answer: str


def conversation_form(tokenizer: PreTrainedTokenizerFast, system: str | None = None) -> RxTAlphaTokenizerConfig:
    """Return the tokens around query and answer for turns that follow one another, as the chat template writes them.

    What stands before the first turn (`system`, or what the template writes of its own) is `conversation_prefix`. The
    turns put together, each followed by the rest of `answer_end`, are the template's rendering of the conversation.

    Raises `ChatTemplateError` where there is no template, or it writes turns in another form.
    """
    written = _checked(tokenizer)
    opening = written.between[len(written.after_answer) :]
    form = _form(tokenizer, opening, written).replace(
        conversation_prefix=conversation_prefix(tokenizer, system) or None
    )
    _check(tokenizer, form, opening, written)
    _check_conversation(tokenizer, form, written, system)
    return form


def _checked(tokenizer: PreTrainedTokenizerFast) -> _Written:
    """Return what the template writes around texts; raises where it gives turns no form of their own."""
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            "The tokenizer has no chat template, which gives turns their form: take an instruction-tuned model, or set "
            "the tokenizer's chat_template."
        )
    written = _written(tokenizer, None)
    if not written.between.startswith(written.after_answer):
        raise ChatTemplateError(
            f"The chat template ends its turns in two ways: {written.after_answer!r} and {written.between!r}."
        )
    return written


def _form(tokenizer: PreTrainedTokenizerFast, opening: str, written: _Written) -> RxTAlphaTokenizerConfig:
    query_prefix, answer_prefix = _ids(tokenizer, opening), _ids(tokenizer, written.before_answer)
    end = _end_token(tokenizer, written.after_answer)
    if not query_prefix or not answer_prefix:
        raise ChatTemplateError("The chat template has no tokens before the user's or the assistant's message.")
    used = {*query_prefix, *answer_prefix, end}
    return RxTAlphaTokenizerConfig(
        pad_token_id=_padding(tokenizer, used),
        bos_token_id=query_prefix[0],
        eos_token_id=end,
        query_token_id=None,
        answer_token_id=None,
        query_prefix=query_prefix,
        answer_prefix=answer_prefix,
    )


def conversation_prefix(tokenizer: PreTrainedTokenizerFast, system: str | None = None) -> tuple[int, ...]:
    """Return the ids that the chat template writes before a conversation's first turn, with a system prompt or without.

    Raises `ChatTemplateError` where it does not write one.
    """
    first, further = _written(tokenizer, system), _written(tokenizer, None)
    opening = further.between[len(further.after_answer) :]
    if system is not None and system not in first.before_first:
        raise ChatTemplateError(f"The chat template does not write a system prompt: it leaves out {system!r:.60}.")
    if not first.before_first.endswith(opening):
        raise ChatTemplateError(
            f"The chat template opens its first turn in another way, {first.before_first!r}, than others, {opening!r}."
        )
    return _ids(tokenizer, first.before_first[: len(first.before_first) - len(opening)])


def answer_end(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Return the ids that the chat template writes after an answer: the token that ends it, and what follows."""
    return _ids(tokenizer, _written(tokenizer, None).after_answer)


def _written(tokenizer: PreTrainedTokenizerFast, system: str | None) -> _Written:
    head = [] if system is None else [{"role": "system", "content": system}]
    others = f"{system or ''} {tokenizer.chat_template}"
    query, answer = _absent(_QUERY, others), _absent(_ANSWER, others)
    ask, reply = {"role": "user", "content": query}, {"role": "assistant", "content": answer}
    asked = render_chat(tokenizer, [*head, ask, reply, ask], opens_answer=True)
    told = render_chat(tokenizer, [*head, ask, reply])
    if asked.count(query) != 2 or asked.count(answer) != 1 or told.count(answer) != 1:
        raise ChatTemplateError("The chat template does not write each message once and unchanged.")
    before_first, rest, before_answer = asked.split(query)
    return _Written(before_first, rest.split(answer)[1], before_answer, told.split(answer)[1])


def _absent(text: str, others: str) -> str:
    """Return a text that does not stand in others: the one given, or a longer one."""
    while text in others:
        text += " now"
    return text


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _end_token(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    ids = _ids(tokenizer, text)
    if not ids or (ids[0] not in tokenizer.all_special_ids and ids[0] not in tokenizer.added_tokens_decoder):
        raise ChatTemplateError(f"The chat template does not end an answer with a special token, but with {text!r}.")
    return ids[0]


def _padding(tokenizer: PreTrainedTokenizerFast, used: set[int]) -> int:
    """Return a token for padding that nothing else uses: the tokenizer's own, or a special one without a use."""
    own = (tokenizer.pad_token_id, tokenizer.unk_token_id)
    free = [number for number in (*own, *sorted(tokenizer.added_tokens_decoder)) if number is not None]
    for number in free:
        if number not in used:
            return int(number)
    raise ChatTemplateError("The tokenizer has no special token that is free to stand for padding: add a pad token.")


def _check(tokenizer: PreTrainedTokenizerFast, form: RxTAlphaTokenizerConfig, opening: str, written: _Written) -> None:
    """Raise where texts and the tokens around them, encoded separately, differ from the whole turn encoded at once."""
    whole = _ids(tokenizer, opening + _QUERY + written.before_answer + _ANSWER + written.after_answer)
    parts = interaction_ids(tokenizer, form, _QUERY, _ANSWER)
    if list(whole[: len(parts)]) != parts:
        raise ChatTemplateError(
            "The tokens of a turn change when its texts are encoded separately from what the chat template writes "
            "around them; such tokenizers are not supported."
        )


def _check_conversation(
    tokenizer: PreTrainedTokenizerFast, form: RxTAlphaTokenizerConfig, written: _Written, system: str | None
) -> None:
    """Raise where the turns of a conversation, put together, are not what the template writes of it."""
    head = [] if system is None else [{"role": "system", "content": system}]
    ask, reply = {"role": "user", "content": _QUERY}, {"role": "assistant", "content": _ANSWER}
    whole = _ids(tokenizer, render_chat(tokenizer, [*head, ask, reply, ask, reply]))
    turn = [*interaction_ids(tokenizer, form, _QUERY, _ANSWER), *answer_end(tokenizer)[1:]]
    if list(whole) != [*(form.conversation_prefix or ()), *turn, *turn]:
        raise ChatTemplateError(
            "The chat template does not write a conversation as its turns one after another (templates that take "
            "thoughts out of earlier answers do not): the memory would hold other tokens than the model expects."
        )

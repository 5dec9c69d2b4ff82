"""Chat templates are programs that come with a model's files: they are run under a limit of steps and of text.

Loops within loops can take years and all memory; a template of any model writes a conversation in a few hundred
steps a message. Steps are counted by Python's tracing of the lines that a template is compiled to, so that the limit
holds in any thread and is the same everywhere.
"""

import re
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from transformers import PreTrainedTokenizerBase

STEPS = 20_000
STEPS_A_MESSAGE = 2_000
LONGEST = 1 << 24
"""Characters that one value of a template may have, beside those of the messages."""
_TEMPLATE = "<template>"  # the file name of what Jinja compiles


class ChatTemplateError(ValueError):
    """A tokenizer whose chat template gives turns no form; the message says what is missing."""


def render_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], *, opens_answer: bool = False
) -> str:
    """Return what a tokenizer's chat template writes of messages, up to where an answer begins with `opens_answer`.

    `ChatTemplateError` for a template that raises, that takes too many steps, or makes too much text.
    """
    limit = _Limit(STEPS + STEPS_A_MESSAGE * len(messages), LONGEST + sum(len(each["content"]) for each in messages))
    before = sys.gettrace()
    try:
        _check_arithmetic(str(tokenizer.chat_template))
        sys.settrace(limit.trace)
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opens_answer))
    except Exception as error:  # templates may raise anything
        raise ChatTemplateError(
            f"The chat template of {_name(tokenizer)} cannot write a conversation: {error}"
        ) from error
    finally:
        sys.settrace(before)


def _check_arithmetic(template: str) -> None:
    """Refuse what takes all memory within one step: products of texts and numbers, and numbers of nine digits."""
    from jinja2 import Environment

    for line, kind, value in Environment().lex(template):
        if kind == "operator" and value in ("*", "**"):
            raise ChatTemplateError(f"in line {line} it multiplies, which is not run")
    if found := re.search(r"\d{9,}", template):
        raise ChatTemplateError(f"it has the number {found[0]:.40}")


class _Limit:
    """Counts the lines that templates run, and looks at the values that they hold."""

    def __init__(self, steps: int, length: int) -> None:
        self.steps, self.length = steps, length

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Follow the frames of templates alone."""
        return self.line if frame.f_code.co_filename == _TEMPLATE else None

    def line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Count a line."""
        self.steps -= 1
        if self.steps < 0:
            raise ChatTemplateError("it takes too many steps")
        if any(_length(value) > self.length for value in frame.f_locals.values()):
            raise ChatTemplateError("it makes too much text")
        return self.line


def _length(value: Any) -> int:
    """Return the length of a text, or of the texts in a template's namespace."""
    if isinstance(value, (str, list, tuple)):
        return len(value)
    inner = getattr(value, "_Namespace__attrs", None)
    return max(map(_length, inner.values()), default=0) if isinstance(inner, dict) else 0


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.name_or_path) or "a tokenizer"

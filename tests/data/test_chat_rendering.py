"""A chat template is a program of somebody else's: it runs under a limit, and what it does wrong is an error."""

import copy
import sys
import time

import pytest

from rxlm.data.chat_rendering import ChatTemplateError, render_chat
from text_models import tiny_tokenizer

LOOP = "{% for a in range(99999) %}"
MESSAGES = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}] * 40
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<{{ m['content'] }}>{% else %}{{ m['content'] }}{% endif %}"
    "{% endfor %}"
)


def rendered(template: str, messages: list[dict[str, str]] = MESSAGES) -> str:
    tokenizer = copy.copy(tiny_tokenizer())
    tokenizer.chat_template = template
    return render_chat(tokenizer, messages)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (f"{LOOP}{LOOP}{LOOP}{{{{ 1 }}}}{{% endfor %}}{{% endfor %}}{{% endfor %}}", "too many steps"),
        (
            "{% macro m(n) %}{{ m(n-1) if n else '' }}{{ m(n-1) if n else '' }}{% endmacro %}{{ m(60) }}",
            "too many steps",
        ),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion depth"),
        (f"{{% set n = namespace(s='ab') %}}{LOOP}{{% set n.s = n.s ~ n.s %}}{{% endfor %}}", "too much text"),
        ("{{ 'a' * 99999999 }}", "in line 1 it multiplies"),
        ("{{ 10 ** 10 ** 10 }}", "in line 1 it multiplies"),
        ("{{ '%9999999999d' % 1 }}", "it has the number 9999999999"),
        ("{{ raise_exception('no') }}", "cannot write a conversation: no"),
        ("{{ ", "unexpected"),
    ],
)
def test_a_template_that_costs_too_much_or_fails_is_an_error(template: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(ChatTemplateError, match=message):
        rendered(template)
    assert time.monotonic() - started < 30


def test_a_usual_template_writes_what_it_wrote() -> None:
    assert rendered(PLAIN) == "<Hi.>Hello." * 40


def test_a_tracer_that_was_there_is_there_again() -> None:
    before = sys.gettrace()
    rendered(PLAIN)
    assert sys.gettrace() is before

"""Words of texts in any language: scoring, value masks and rewards compare these.

A word is a run of letters, marks and digits, in one normal form and case. In scripts that put no spaces between words
(Chinese, Japanese, Thai and their like) each character is one, as Unicode's word boundaries have it (UAX 29). A number
is one word with its sign, decimals and groups of three digits ("1 000" is "1,000"), and with a currency or per cent
sign on either side; so is a time ("7:30"). A name keeps its symbols ("C++", "F♯", "A-"), an emoji or note is a word,
and what an apostrophe adds to a word ("Rex's", "İzmir'de") is a word of its own.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

import regex

_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_EMOJI = (
    r"[\p{Extended_Pictographic}\u2600-\u26FF]"
    r"(?:[\uFE0E\uFE0F\U000E0020-\U000E007F]|\p{EMod}|\u200D\p{Extended_Pictographic})*|\p{RI}\p{RI}"
)
"""Emoji and other symbols; tag characters tell the flag of England from that of Scotland."""
_SPACE = r"[ \u00A0\u2009\u202F]"
_MINUS = r"[-\u2212\uFF0D]"
_UNIT = r"[\p{Sc}%\uFF05\u066A\u2030]"
_SIGN = (
    rf"(?:(?<![^\s(\[{{\"'=:]){_MINUS}(?=\p{{Sc}}?\p{{Nd}}))?"
    rf"(?:(?:\p{{Sc}}{_SPACE}?|{_UNIT})(?=\p{{Nd}}))?"
)
"""The minus, and the currency or per cent sign, before a number."""
_GROUPS = (
    rf"(?<!\p{{Nd}}{_SPACE})[\p{{Nd}}--0]\p{{Nd}}{{0,2}}(?:{_SPACE}\p{{Nd}}{{3}})+(?!{_SPACE}?\p{{Nd}})"
    r"|[\p{Nd}--0]\p{Nd}{0,2}(?:['\u2019]\p{Nd}{3})+(?!\p{Nd})"
)
"""A number in groups of three digits with spaces or apostrophes between them."""
_INSIDE = (
    rf"(?:[[\p{{L}}\p{{M}}\p{{N}}_\u200C\u200D]--[{_NO_SPACES}]]"
    r"|(?<=\p{Nd})[.,:\u066B\u066C\uFF0E\uFF1A](?=\p{Nd})|(?<=\p{L})[\u266D\u266F])"
)
_WORD = regex.compile(
    rf"[{_NO_SPACES}]\p{{M}}*"
    # A grade or blood type ("A-", "AB-"), but no item of a list ("a- Rome").
    rf"|(?:[\p{{L}}--[{_NO_SPACES}]]\p{{M}}*|AB){_MINUS}(?![-\w]|\s+\p{{Lu}})"
    rf"|{_SIGN}(?:{_GROUPS}|[[\p{{L}}\p{{N}}_]--[{_NO_SPACES}]]){_INSIDE}*"
    rf"(?:[+\uFF0B]{{2}}|[+#\uFF0B\uFF03](?!\w))*(?:(?<=\p{{Nd}}){_SPACE}?{_UNIT}(?!\w))?"
    rf"|(?<=[\p{{L}}\p{{M}}\p{{N}}])['\u2019\u02BC]\p{{L}}\p{{M}}*{_INSIDE}*"
    rf"|{_EMOJI}",
    regex.VERSION1,
)
_NUMBER = regex.compile(
    rf"(-?)({_UNIT}?) ?"
    r"([1-9]\d{0,2}([,' ])\d{3}(?:\4\d{3})*(?!\4?\d)|\d+)"
    rf"(.*?)({_UNIT}?)"
)
_SAME = str.maketrans(
    "\u2019\u02bc\u2212\u0131\u066a\u066b\u066c\u266f\u0451\u0623\u0625\u0622\u06cc\u06a9",
    "''-i%.,#\u0435\u0627\u0627\u0627\u064a\u0643",
    "\ufe0e\ufe0f",
)
"""Signs and letters that are written for each other, as search engines fold them; emoji and text style of symbols."""
_POINTS = regex.compile(r"[\u064B-\u065F\u0670\u0640\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7]")
"""Arabic vowel signs and the stroke that lengthens a word, and Hebrew points: most texts leave them out."""

_PARTICLES = """
은 는 이 가 을 를 에 의 로 와 과 도 만 야 랑 으로 에서 에서는 에게 에게서 한테 까지 부터 처럼 보다 하고
이랑 이야 예요 이에요 였어요 이었어요 입니다 이었습니다 라는 이라는 라고 이라고
"""
_HANGUL = re.compile("[\uac00-\ud7a3]")
_AFTER = rf"(?:{'|'.join(sorted(_PARTICLES.split(), key=len, reverse=True))})?"
"""Particles that Korean writes at the end of a name."""
_BEFORE_ARABIC = r"[\u0648\u0641]??[\u0628\u0643\u0644]??(?:\u0627\u0644)??"
_BEFORE_HEBREW = r"[\u05D5\u05E9]??[\u05D1\u05DB\u05DC\u05DE\u05D4]??"
"""Words of one letter, and the articles, that Arabic and Hebrew write at the beginning of a name.

As few as possible are read as such: a whole word that is a value is that value.
"""


class Word(NamedTuple):
    """A word in its normal form, and where it stands in the text: characters `start` to `end` - 1."""

    text: str
    start: int
    end: int


class Found(NamedTuple):
    """A value that a text names, in its normal form, and where."""

    value: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """Return the words of a text."""
    return [Word(_normal(found.group()), found.start(), found.end()) for found in _WORD.finditer(text)]


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """Return the words of a text in their normal form, with single spaces and without punctuation."""
    return " ".join(word.text for word in words(text))


def find_values(text: str, values: Collection[str]) -> Iterator[Found]:
    """Yield the values that a text names, as whole words, from its beginning; of two that overlap the longer one.

    A value may have what its language writes together with names: a particle after it, an article before it.
    """
    own = words(text)
    joined, starts = " ".join(word.text for word in own), [0]
    for word in own:
        starts.append(starts[-1] + len(word.text) + 1)
    place = {start: number for number, start in enumerate(starts)}
    wanted = frozenset(filter(None, map(normalise, values)))
    pattern = _pattern(wanted, with_particles=bool(_HANGUL.search(joined)))
    for found in pattern.finditer(joined):
        first, end = place[found.start()], place[found.end() + 1]
        yield Found(found["value"], own[first].start, own[end - 1].end)


def names(text: str, value: str) -> bool:
    """Tell whether a text names a value."""
    return any(True for _ in find_values(text, (value,)))


def says(text: str, phrases: Collection[str]) -> bool:
    """Tell whether a text has one of some phrases in it, as whole words; Korean ones may go on with an ending."""
    return bool(_phrases(frozenset(phrases)).search(normalise(text)))


@lru_cache(maxsize=8192)
def _normal(word: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    text = _POINTS.sub("", text).replace("i\u0307", "i").translate(_SAME)  # Turkish has two letters i, in either case
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    if number := _NUMBER.fullmatch(text):
        minus, before, whole, between, rest, after = number.groups()
        text = minus + before + after + (whole.replace(between, "") if between else whole) + rest
    return text.replace(" ", "")


@lru_cache(maxsize=1024)
def _pattern(values: frozenset[str], *, with_particles: bool) -> re.Pattern[str]:
    # Longest first, so that a value is not found within a longer one.
    ordered = sorted(values, key=lambda value: (-len(value), value))
    choices = "|".join(re.escape(value) for value in ordered) or "(?!)"
    after = _AFTER if with_particles else ""
    return re.compile(rf"(?<!\S){_before(values)}(?P<value>{choices}){after}(?!\S)")


def _before(values: frozenset[str]) -> str:
    every = "".join(values)
    scripts = {"\u0600-\u06ff": _BEFORE_ARABIC, "\u0590-\u05ff": _BEFORE_HEBREW}
    return "".join(before for script, before in scripts.items() if re.search(f"[{script}]", every))


@lru_cache(maxsize=64)
def _phrases(phrases: frozenset[str]) -> "regex.Pattern[str]":
    choices = "|".join(regex.escape(each) for each in sorted(filter(None, map(normalise, phrases)))) or "(?!)"
    return regex.compile(rf"(?<!\S)(?:{choices})(?:(?<=\p{{Hangul}})\p{{Hangul}}*)?(?!\S)", regex.VERSION1)

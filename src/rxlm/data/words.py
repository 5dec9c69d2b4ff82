"""Words of texts in any language: scoring, value masks and rewards compare these.

A word is a run of letters, marks and digits, in one normal form and case. In scripts that put no spaces between words
(Chinese, Japanese, Thai and their like) each character is one, as Unicode's word boundaries have it (UAX 29). A number
keeps its sign and its decimals, a name its symbols ("C++"), an emoji is a word, and what an apostrophe adds to a word
("Rex's", "İzmir'de") is a word of its own.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

import regex

_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_EMOJI = r"\p{Extended_Pictographic}(?:\uFE0F|\p{EMod}|\u200D\p{Extended_Pictographic})*|\p{RI}\p{RI}"
_SIGN = r"(?:(?<![^\s(\[{\"'=:])[-\u2212](?=\p{Nd}))?"
_INSIDE = rf"(?:[[\p{{L}}\p{{M}}\p{{N}}_\u200C\u200D]--[{_NO_SPACES}]]|(?<=\p{{Nd}})[.,](?=\p{{Nd}}))"
_WORD = regex.compile(
    rf"[{_NO_SPACES}]\p{{M}}*"
    rf"|{_SIGN}[[\p{{L}}\p{{N}}_]--[{_NO_SPACES}]]{_INSIDE}*(?:\+\+|[+#](?!\w))*"
    rf"|(?<=[\p{{L}}\p{{M}}\p{{N}}])['\u2019\u02BC]\p{{L}}\p{{M}}*{_INSIDE}*"
    rf"|{_EMOJI}",
    regex.VERSION1,
)
_THOUSANDS = regex.compile(r"-?\d{1,3}(?:,\d{3})+")
_POINTS = regex.compile(r"[\u064B-\u065F\u0670\u0640\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7]")
"""Arabic vowel signs and the stroke that lengthens a word, and Hebrew points: most texts leave them out."""

_PARTICLES = """
은 는 이 가 을 를 에 의 로 와 과 도 만 야 랑 으로 에서 에서는 에게 에게서 한테 까지 부터 처럼 보다 하고
이랑 이야 예요 이에요 였어요 이었어요 입니다 이었습니다 라는 이라는 라고 이라고
"""
_HANGUL = re.compile("[\uac00-\ud7a3]")
_AFTER = rf"(?:{'|'.join(sorted(_PARTICLES.split(), key=len, reverse=True))})?"
"""Particles that Korean writes at the end of a name."""
_BEFORE_ARABIC = r"(?:[\u0648\u0641]?[\u0628\u0643\u0644]?(?:\u0627\u0644)?)"
_BEFORE_HEBREW = r"(?:[\u05D5\u05E9]?[\u05D1\u05DB\u05DC\u05DE\u05D4]?)"
"""Words of one letter, and the articles, that Arabic and Hebrew write at the beginning of a name."""


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


def _normal(word: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    text = _POINTS.sub("", text).replace("\u2019", "'").replace("\u02bc", "'").replace("\u2212", "-")
    text = text.replace("i\u0307", "i").replace("\u0131", "i")  # Turkish has two letters i, in either case
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


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
    return "".join(f"{before}?" for script, before in scripts.items() if re.search(f"[{script}]", every))


@lru_cache(maxsize=64)
def _phrases(phrases: frozenset[str]) -> "regex.Pattern[str]":
    choices = "|".join(regex.escape(each) for each in sorted(filter(None, map(normalise, phrases)))) or "(?!)"
    return regex.compile(rf"(?<!\S)(?:{choices})(?:(?<=\p{{Hangul}})\p{{Hangul}}*)?(?!\S)", regex.VERSION1)

"""Keys of turns: hash chains over what was said, by which a turn is found again by those who may, and by nobody else.

    key_0 = H(version, model, tenant's salt, instructions, seed, size of the memory)
    key_n = H(key_(n-1), canonical query, canonical answer, thought)

The alias of a turn is the same chain without thoughts: programs that send a conversation back have lost them.
"""

import hashlib
import re
import secrets
import unicodedata
from typing import NamedTuple

CHAIN_VERSION = "1"
API_KEY_PREFIX = "rxlm-"
_REASONING = re.compile(r"\s*(?:<(think|thinking|reasoning)>.*?</\1>|<details\b[^>]*>.*?</details>)", re.DOTALL)
"""How programs show a thought before an answer."""


class Keys(NamedTuple):
    """Key and alias of a turn."""

    key: str
    alias: str

    def after(self, query: str, answer: str, thought: str | None) -> "Keys":
        """Return those of the turn after this one."""
        said = canonical(query), canonical(answer)
        thought = "" if thought is None else "\x01" + canonical(thought)
        return Keys(_digest("turn", self.key, *said, thought), _digest("turn", self.alias, *said))

    def after_forgetting(self, first: int, end: int) -> "Keys":
        """Return those of the memory without the tokens at some positions."""
        return Keys(*(_digest("forget", each, str(first), str(end)) for each in self))


def root_keys(model: str, salt: str, instructions: str | None, seed: int | None, memory_tokens: int | None) -> Keys:
    """Return the keys of conversations before their first turn."""
    given = "" if instructions is None else "\x01" + canonical(instructions)
    key = _digest("root", CHAIN_VERSION, model, salt, given, str(seed), str(memory_tokens))
    return Keys(key, key)


def canonical(text: str) -> str:
    """Return a text as it is compared: in NFC, with LF, without space at its ends."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def without_reasoning(answer: str) -> str:
    """Return an answer that a program sends back, without the thought that it may show before it."""
    found = _REASONING.match(answer)
    return answer[found.end() :].lstrip() if found else answer


def new_id(prefix: str) -> str:
    """Return an identifier that nobody can guess: 192 random bits."""
    return f"{prefix}{'' if prefix.endswith('-') else '_'}{secrets.token_hex(24)}"


def new_api_key() -> str:
    """Return a new API key."""
    return API_KEY_PREFIX + secrets.token_urlsafe(32)


def key_digest(api_key: str) -> str:
    """Return what a store knows of an API key: its SHA-256, which suffices for 256 random bits."""
    return hashlib.sha256(api_key.encode()).hexdigest()


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()

"""Long texts in passages of a few sentences, each short enough for one turn."""

import re
from collections.abc import Iterator


def sentence_pieces(text: str, max_words: int) -> Iterator[str]:
    """Divide a text between sentences into pieces of at most `max_words` words, or one longer sentence."""
    piece: list[str] = []
    for sentence in re.split(r"(?<=[.!?;])\s+|(?<=[.!?][\"'])\s+", text):
        words = sentence.split()
        if piece and len(piece) + len(words) > max_words:
            yield " ".join(piece)
            piece = []
        piece += words
    if piece:
        yield " ".join(piece)


def paragraph_passages(text: str, max_words: int) -> list[str]:
    """Divide a text between paragraphs, which blank lines separate, into passages of at most `max_words` words.

    A longer paragraph is divided between sentences, as by `sentence_pieces`.
    """
    passages: list[str] = []
    held = ""
    for paragraph in filter(str.strip, re.split(r"\n\s*\n", text)):
        longer = f"{held}\n\n{paragraph}" if held else paragraph
        if len(longer.split()) <= max_words:
            held = longer
            continue
        if held:
            passages.append(held)
        *full, held = sentence_pieces(paragraph, max_words)
        passages += full
    return [*passages, held] if held else passages

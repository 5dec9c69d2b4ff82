"""The pairs of a stage that learnt from preferences as a page, with what the stage made of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rxlm.reporting.page import Page

PAIRS_FILE = "pairs.jsonl"
HEADER = ("query", "better answer", "other answer", "differs", "before", "after", "turns before")
READING = (
    "The first pairs that the stage learnt from. Before and after: by how much the better answer is likelier than the "
    "other one, in nats, as the stage began and as it ended; by how much it scores higher, for a reward model. Of an "
    "answer that was rated by itself it is its own log-probability or score, with a minus where it was not good. "
    "Right: after is larger than before, and above 0. Wrong: pairs of one kind of difference fall, or the better "
    "answers are no better to read than the others (what was learnt is not what was meant)."
)


def write_pairs(path: Path, output: Path) -> Path:
    """Write the page of a stage's pairs.

    Args:
        path: the JSONL file, in the stage's folder.
        output: the page.

    Returns `output`. Raises `ValueError` where a line is no pair.
    """
    pairs = [_pair(line, f"{path}, line {number}") for number, line in enumerate(_lines(path), 1)]
    page = Page(f"Pairs of {path.parent.name}")
    page.text(READING)
    compared = [pair for pair in pairs if "chosen" in pair and "rejected" in pair]
    counts = [sum(pair[when] > 0 for pair in compared) for when in ("before", "after")]
    caption = f"Of {len(compared)} pairs the better answer was ahead in {counts[0]} before, and in {counts[1]} after."
    page.table(HEADER, [_row(pair) for pair in pairs], caption=caption)
    page.write(output)
    return output


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")


def _pair(line: str, place: str) -> Mapping[str, Any]:
    try:
        pair = json.loads(line)
    except ValueError:
        pair = None
    if not (isinstance(pair, dict) and {"query", "turns", "before", "after"} <= pair.keys()):
        raise ValueError(f"{place}: a pair must have a query, turns, before and after, got {line:.80}")
    return pair


def _row(pair: Mapping[str, Any]) -> list[Any]:
    turns = "\n".join(text for turn in pair["turns"] for text in turn)
    return [*(pair.get(name) for name in ("query", "chosen", "rejected", "differs", "before", "after")), turns]

"""`make fuzz`: damaged files of every kind, and how each was answered."""

import argparse
import contextlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fuzzing.judge import WrongValueError, check_texts
from fuzzing.targets import Target, targets

OUTCOMES = ("clear error", "accepted", "error without place", "raw", "hang", "partial state", "silently wrong")
BAD = OUTCOMES[2:]
SECONDS = 20
"""After which a file counts as a hang."""


class HangError(BaseException):
    """A file took too long; no handler of ours or of a library catches it."""


def outcome_of(target: Target, number: int, seed: str, base: Path) -> tuple[str, str]:
    """Damage one file and read it; return how it was answered, and the error."""
    folder = Path(tempfile.mkdtemp(prefix=f"file-{number}-", dir=base))
    path = target.make(folder, random.Random(f"{seed}/{number}"))
    before = target.state()
    try:
        with _limit(SECONDS):
            check_texts(target.read(path))
        return "accepted", ""
    except HangError:
        return "hang", ""
    except WrongValueError as error:
        return "silently wrong", str(error)
    except (ValueError, OSError) as error:  # what the command line says as a sentence
        text = f"{type(error).__name__}: {error}"
        if not _same(before, target.state()):
            return "partial state", text
        return ("clear error" if folder.name in str(error) else "error without place"), text
    except Exception as error:
        return "raw", "".join(traceback.format_exception(error)[-3:])
    finally:
        shutil.rmtree(folder)


def fuzz(files: int, seed: int, *, show: bool = False, kinds: str = "") -> tuple[Counter[tuple[str, str]], list[str]]:
    """Read damaged files; return how often each kind was answered how, and a line for each bad answer."""
    counts: Counter[tuple[str, str]] = Counter()
    found: list[str] = []
    with tempfile.TemporaryDirectory() as name, _quiet():
        torch.manual_seed(seed)
        every = targets(Path(name), kinds)
        order = random.Random(seed)
        for number in range(files):
            kind = order.choices(list(every), [each.weight for each in every.values()])[0]
            started = time.monotonic()
            outcome, text = outcome_of(every[kind], number, f"{seed}/{kind}", Path(name))
            counts[kind, outcome] += 1
            if outcome in BAD:
                found.append(f"{number} {kind}: {outcome} ({time.monotonic() - started:.1f} s): {text[-900:]}")
                if show:
                    sys.stderr.write(found[-1] + "\n")
    return counts, found


def table(counts: Counter[tuple[str, str]]) -> str:
    """Return counts by kind and answer."""
    kinds = sorted({kind for kind, _ in counts})
    rows = [["kind", *OUTCOMES]]
    rows += [[kind, *(str(counts[kind, outcome]) for outcome in OUTCOMES)] for kind in kinds]
    rows.append(["all", *(str(sum(counts[kind, outcome] for kind in kinds)) for outcome in OUTCOMES)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the remarks of libraries about damaged files, and their progress bars, from the screen."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return before.shape == after.shape and bool(torch.equal(before.nan_to_num(), after.nan_to_num()))
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


def main() -> int:
    """Run from the command line; the status is 1 where an answer was bad."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kinds", default="", help="only kinds whose name has this in it")
    given = options.parse_args()
    counts, found = fuzz(given.files, given.seed, show=True, kinds=given.kinds)
    sys.stdout.write(table(counts) + "\n")
    placeless = sum(count for (_, outcome), count in counts.items() if outcome == "error without place")
    return int(len(found) > placeless or placeless >= given.files / 100)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())

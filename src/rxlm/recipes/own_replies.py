"""What a pretrained language model itself replies to things people say, kept in a file.

A conversation's first turn is answered by the language model as it is, often at length; the memory must find what was
told in such turns, too.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from rxlm.files import write_atomically
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.rxt.models import RxTAlpha

ROWS_AT_ONCE = 64


def kept_replies(path: Path) -> dict[str, str]:
    """Return the replies that a file holds, by the message; none, where there is no file."""
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def own_replies(model: RxTAlpha, queries: Sequence[str], max_tokens: int, path: Path) -> None:
    """Add to a file the model's replies to first messages that it has not yet.

    Args:
        model: the language model, with a memory that changes nothing while it is empty.
        queries: the messages.
        max_tokens: a reply is cut off there.
        path: of the file, JSON.
    """
    known = kept_replies(path)
    respondent = RxTRespondent(model, max_answer_tokens=max_tokens)
    # Those of like length together: shorter ones would wait for them.
    missing = sorted(dict.fromkeys(query for query in queries if query not in known), key=len)
    for start in range(0, len(missing), ROWS_AT_ONCE):
        part = missing[start : start + ROWS_AT_ONCE]
        respondent.reset(len(part))
        texts = respondent.respond(part)
        known |= {query: text.strip() or "..." for query, text in zip(part, texts, strict=True)}
        text = json.dumps(known, ensure_ascii=False, indent=0)
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))

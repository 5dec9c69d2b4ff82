"""What a pretrained language model itself replies to things people say, kept in a file.

A conversation's first turn is answered by the language model as it is, often at length; the memory must find what was
told in such turns, too.
"""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rxlm.rxt.generation import Prompt, SamplingConfig
from rxlm.rxt.hub import write_atomically
from rxlm.rxt.interaction import answers
from rxlm.rxt.models import RxTAlpha

ROWS_AT_ONCE = 64


def own_replies(model: RxTAlpha, queries: Sequence[str], max_tokens: int, path: Path) -> dict[str, str]:
    """Return the model's replies to first messages, by the message; those that the file has are taken from there.

    Args:
        model: the model; an empty memory changes nothing for it.
        queries: the messages.
        max_tokens: a reply is cut off there.
        path: of the file, JSON.
    """
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # Those of like length together: shorter ones would wait for them.
    missing = sorted(dict.fromkeys(query for query in queries if query not in known), key=len)
    for start in range(0, len(missing), ROWS_AT_ONCE):
        part = missing[start : start + ROWS_AT_ONCE]
        known |= dict(zip(part, _reply(model, part, max_tokens), strict=True))
        text = json.dumps(known, ensure_ascii=False, indent=0)
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))
    return {query: known[query] for query in queries}


def _reply(model: RxTAlpha, queries: Sequence[str], max_tokens: int) -> list[str]:
    tokens = model.tokenizer_config
    encoded = model.tokenize_batch(queries)
    prompt = Prompt.of(encoded["input_ids"], encoded["attention_mask"], tokens.pad_token_id)
    prompt = prompt.append(tokens.before_answer, tokens.pad_token_id)
    columns = model.generate(prompt, model.init_memory(len(queries)), sampling=SamplingConfig(temperature=0.0))
    rows = answers(list(islice(columns, max_tokens)), (tokens.eos_token_id,))
    return [text.strip() or "..." for text in model.stringify_batch(rows)]

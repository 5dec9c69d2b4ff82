"""`rxlm feedback`: what people said of a served model's answers."""

import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from rxlm.files import write_atomically


def export(
    store: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Path | None = None,
    tenant: str | None = None,
) -> None:
    """Write ratings, comparisons and edits of answers as preference records, a JSON object a line.

    A pair has `prompt`, `chosen` and `rejected`, a rated answer `prompt`, `completion` and `label`, as TRL reads them;
    a prompt is the whole conversation up to the question.

    Args:
        store: where the conversations are, as in `rxlm serve`: a file, redis://..., or the folder of the model.
        output: file to write; standard output if not given.
        tenant: whose; everybody's if not given.
    """
    from rxlm.serving.preferences import preference_records
    from rxlm.serving.store.opening import store_of
    from rxlm.serving.store.store import Store
    from rxlm.serving.store.tenants import Tenants

    backend = store_of(store)
    try:
        known = [each.id for each in Tenants(backend).all()]
        if tenant is not None and tenant not in known:
            raise ValueError(f"There is no tenant {tenant!r} in {store}; there are {', '.join(known) or 'none'}.")
        names = known if tenant is None else [tenant]
        records = [record for name in names for record in preference_records(Store(backend), name)]
    finally:
        backend.close()
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if output is None:
        sys.stdout.write(lines)
        return
    write_atomically(output, lambda temporary: Path(temporary).write_text(lines, encoding="utf-8"))
    pairs = sum("chosen" in record for record in records)
    print(f"{len(records)} records ({pairs} pairs, {len(records) - pairs} rated answers) in {output}")

"""`rxlm convert`."""

from pathlib import Path
from typing import Annotated

import tyro

from rxlm.folders import require_new_folder
from rxlm.rxt.models import RxTAlpha


def convert(
    source: Annotated[str, tyro.conf.Positional],
    target: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    revision: str | None = None,
) -> None:
    """Rewrite a checkpoint in the format of the published RxT models in rxlm's own format.

    The numbers do not change. Nothing requires it, since `rxlm chat` reads both formats. A converted folder has
    every weight once, under readable names, and names its format. The tokenizer is copied, too.

    Args:
        source: folder or hub id of the checkpoint.
        target: folder to write, new or empty.
        revision: branch, tag or commit on the hub.
    """
    require_new_folder(target)
    model = RxTAlpha.from_pretrained(source, revision=revision)
    model.save_pretrained(target)
    tokenizer = "with its tokenizer" if model.tokenizer is not None else "without a tokenizer, as it had none"
    print(f"Wrote the {type(model).__name__} {source} to {target}, {tokenizer}.")

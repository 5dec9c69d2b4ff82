"""One of two processes under torchrun that train by the recipe `upcycled`."""

import json
import sys
from pathlib import Path

from rxlm.recipes import UpcycledRecipe, open_run
from rxlm.training import distributed

if __name__ == "__main__":
    distributed.start()
    values = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    open_run(UpcycledRecipe.from_dict(values), Path(sys.argv[2])).train()

"""Saved models that carry their code: `trust_remote_code=True` loads them where rxlm is not installed.

The modules that a model is made of are written beside its weights, each in one file, with their imports of each other
made relative.
"""

import json
import re
from importlib.util import find_spec
from pathlib import Path

from rxlm.file_errors import read_json_object
from rxlm.files import write_text
from rxlm.folders import saving

ROOT = "rxlm"
ENTRY = "rxlm.llm.modeling"
CONFIG = "rxlm.llm.config"
AUTO_MAP = {
    "AutoConfig": f"{CONFIG}.DecoderLMConfig",
    "AutoModel": f"{ENTRY}.DecoderLMModel",
    "AutoModelForCausalLM": f"{ENTRY}.DecoderLMForCausalLM",
}
IMPORT = re.compile(rf"^(\s*)from ({ROOT}(?:\.\w+)+) import", re.MULTILINE)


def carry_code(folder: str | Path) -> list[Path]:
    """Write the code of a saved model beside its weights, and its address into the configuration; return the files.

    Raises FileNotFoundError where the folder holds no saved model.
    """
    folder = Path(folder)
    path = folder / "config.json"
    values = read_json_object(path)
    values["auto_map"] = {
        name: f"{_flat(target.rpartition('.')[0])}.{target.rpartition('.')[2]}" for name, target in AUTO_MAP.items()
    }
    files = []
    with saving(folder, amends=True) as draft:
        for name, source in _modules(ENTRY).items():
            text = IMPORT.sub(lambda match: f"{match[1]}from .{_flat(match[2])} import", source)
            files.append(f"{_flat(name)}.py")
            write_text(draft / files[-1], text)
        write_text(draft / path.name, json.dumps(values, indent=2, sort_keys=True) + "\n")
    return [folder / name for name in files]


def _modules(entry: str) -> dict[str, str]:
    """Return the source of a module, and of all modules of ours that it imports, by name."""
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name not in found:
            spec = find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            found[name] = Path(spec.origin).read_text(encoding="utf-8")
            waiting += [match[2] for match in IMPORT.finditer(found[name])]
    return found


def _flat(name: str) -> str:
    """Name of a module as a file beside the weights."""
    return name.removeprefix(f"{ROOT}.").replace(".", "_")

"""What a benchmark measured, in the one form of them all: a JSON file that `compare.py` reads.

It holds the machine, the versions, the settings and the figures. A figure has its samples, for what is noise, and a
kind, which says what may be compared with what.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
import transformers

from rxlm import __version__
from rxlm.file_errors import read_json_object
from rxlm.files import write_text
from rxlm.folders import MARKER

Kind = Literal["ratio", "measured", "exact"]
"""ratio: of two measurements of one run, or a share: much the same on any machine. measured: seconds, tokens a second:
of this machine only. exact: bytes, operations: the same at every time."""
Better = Literal["more", "less"]
RESULTS = Path(__file__).parent / "results"


class Record:
    """The figures of a run of a benchmark, in a file.

    Args:
        path: of the file; what a long benchmark that was started before has measured is there.
        settings: of the benchmark: a dataclass, or what argparse made.
        free: names of settings that nothing measured depends on; where results go is one always.

    ValueError where the file has what was measured with other settings, or of a model that is another one now, and
    where it is not what a benchmark wrote.
    """

    def __init__(self, path: Path, settings: Any, *, free: Collection[str] = ()) -> None:
        self.path, self.settings, self.models = path, plain(settings, free), digests(settings)
        self.figures: dict[str, dict[str, Any]] = {}
        found = read_json_object(path) if path.is_file() else {}
        self.kept: dict[str, Any] = found.get("kept", {})
        self.places: dict[str, str] = found.get("places", {})
        if not isinstance(self.kept, dict) or not isinstance(self.places, dict):
            raise ValueError(f"{path} is not what a benchmark wrote: kept and places must be objects.")
        before = found.get("settings")
        if self.kept and before != self.settings:
            raise ValueError(f"{path} was measured with other settings; name another --output: {before}.")
        if self.kept and found.get("models", self.models) != self.models:
            changed = ", ".join(str(vars(settings)[name]) for name in self.models)
            raise ValueError(f"{path} was measured before {changed} was changed; name another --output.")
        path.parent.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return what was measured under a name, measured now if it is not there yet: a long run goes on.

        Where it was measured at another commit, by other versions or on another machine, this is said.
        """
        here = place()
        if name not in self.kept:
            self.kept[name], self.places[name] = json.loads(json.dumps(measure())), here
            self.save()
            print(name, "measured", flush=True)
        elif (before := self.places.get(name, here)) != here:
            print(f"{name} is not measured again: it was with {before}, which is now {here}", flush=True)
        return self.kept[name]

    def add(
        self,
        name: str,
        samples: float | Iterable[float | None] | None,
        unit: str,
        *,
        better: Better | None = None,
        kind: Kind = "measured",
    ) -> None:
        """Add a figure with its samples; None among them was not measured, and a figure of none is left out."""
        each = samples if isinstance(samples, Iterable) else [samples]
        values = [float(value) for value in each if value is not None]
        if values:
            self.figures[name] = {"samples": values, "unit": unit, "better": better, "kind": kind}

    def save(self) -> None:
        """Write the file."""
        values = {
            "benchmark": self.path.stem,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "machine": machine(),
            "versions": versions(),
            "settings": self.settings,
            "figures": {name: {"value": median(one["samples"]), **one} for name, one in self.figures.items()},
            "kept": self.kept,
            "places": self.places,
            "models": self.models,
        }
        write_text(self.path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def plain(settings: Any, free: Collection[str]) -> dict[str, Any]:
    """Return settings as JSON has them, without those that nothing measured depends on."""
    values = {name: value for name, value in vars(settings).items() if name not in ("output", *free)}
    return json.loads(json.dumps(values, default=str))


def digests(settings: Any) -> dict[str, str]:
    """Return a digest of each saved model that a setting names: a folder's may be trained anew."""
    found = {}
    for name, value in vars(settings).items():
        if isinstance(value, (str, Path)) and (marker := Path(value) / MARKER).is_file():
            found[name] = hashlib.sha256(marker.read_bytes()).hexdigest()
    return found


def place() -> str:
    """Return the versions and the processor that something is measured with, in a line."""
    return ", ".join([*(f"{name} {each}" for name, each in versions().items()), machine()["processor"]])


def at_least(least: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number of at least so many."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return whole_number


def machine() -> dict[str, Any]:
    """Return what measured figures depend on, and how busy the machine was."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Return the versions of what was measured, and the commit of the working tree."""
    git = shutil.which("git")
    describe = [git, "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    commit = subprocess.run(describe, cwd=here, capture_output=True, text=True).stdout.strip() if git else ""
    return {
        "rxlm": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }

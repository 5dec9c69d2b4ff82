"""What a benchmark measured, in the one form of them all: a JSON file that `compare.py` reads.

It holds the machine, the versions, the settings and the figures. A figure has its samples, for what is noise, and a
kind, which says what may be compared with what.
"""

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

    ValueError where the file has what was measured with other settings.
    """

    def __init__(self, path: Path, settings: Any, *, free: Collection[str] = ()) -> None:
        self.path, self.settings = path, plain(settings, free)
        self.figures: dict[str, dict[str, Any]] = {}
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.kept: dict[str, Any] = found.get("kept", {})
        if self.kept and found["settings"] != self.settings:
            raise ValueError(f"{path} was measured with other settings; name another --output: {found['settings']}.")
        path.parent.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return what was measured under a name, measured now if it is not there yet: a long run goes on."""
        if name not in self.kept:
            self.kept[name] = json.loads(json.dumps(measure()))
            self.save()
            print(name, "measured", flush=True)
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
        }
        self.path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def plain(settings: Any, free: Collection[str]) -> dict[str, Any]:
    """Return settings as JSON has them, without those that nothing measured depends on."""
    values = {name: value for name, value in vars(settings).items() if name not in ("output", *free)}
    return json.loads(json.dumps(values, default=str))


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

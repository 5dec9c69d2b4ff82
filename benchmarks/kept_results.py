"""Figures of a long benchmark, kept in a file as they come."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Results:
    """Figures by name: a run that is started again goes on where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return a figure, measured if it is not there yet."""
        if name not in self.values:
            self.values[name] = json.loads(json.dumps(measure()))
            self.path.write_text(json.dumps(self.values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(name, "measured", flush=True)
        return self.values[name]

"""The server's log: a JSON object a line."""

import json
import logging
import time
from pathlib import Path
from typing import Any


class JsonLines(logging.Formatter):
    """Writes a record as an object: time, level, where it comes from, and what it says, which may be one itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03}Z", "level": record.levelname}
        line["logger"] = record.name
        try:
            said = json.loads(message)
        except ValueError:
            said = message
        line |= said if isinstance(said, dict) else {"message": said}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def install(file: Path | None) -> None:
    """Let all that is logged go to a file, or to standard error."""
    handler = logging.StreamHandler() if file is None else logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

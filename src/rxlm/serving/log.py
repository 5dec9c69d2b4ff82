"""The server's log: a JSON object a line, whoever writes it."""

import json
import logging
from contextlib import suppress
from typing import Any


class JsonLines(logging.Formatter):
    """Writes records as JSON; messages of ours that are JSON already stand in it as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message: Any = record.getMessage()
        if record.name.startswith("rxlm.serving"):
            with suppress(ValueError):
                message = json.loads(message)
        line = {"time": self.formatTime(record), "level": record.levelname, "log": message}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)

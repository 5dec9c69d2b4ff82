"""Every line of the log is JSON, of other packages and with tracebacks, too."""

import io
import json
import logging

from rxlm.serving.log import JsonLines


def test_every_line_is_an_object() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    for name in ("rxlm.serving.requests", "uvicorn.error"):
        log = logging.Logger(name)
        log.addHandler(handler)
        log.info("%s", json.dumps({"status": 200}))
        log.info('Started "it"\nhere')
        try:
            raise ValueError("wrong")
        except ValueError:
            log.exception("failed")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["log"] for line in lines[:3]] == [{"status": 200}, 'Started "it"\nhere', "failed"]
    assert lines[3]["log"] == '{"status": 200}'
    assert "ValueError: wrong" in lines[5]["traceback"]

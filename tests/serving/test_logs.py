"""The log: JSON, and without what was said unless the server was told so."""

import json
import logging

from running_server import running
from rxlm.serving.logs import JsonLines


def test_every_line_is_an_object():
    form = JsonLines()
    for message in ('{"route": "/health"}', "plain", '"a string"', "[1]"):
        line = json.loads(form.format(logging.LogRecord("rxlm", logging.INFO, "", 1, message, None, None)))
        assert line["level"] == "INFO"
        assert "route" in line or "message" in line


def test_what_is_said_stands_in_the_log_only_where_the_server_was_told_so(models, caplog):
    for texts in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO, "rxlm"), running(models["slots"]) as server:
            server.context.texts_in_log = texts
            response = server.client().responses.create(input="My dog is called Rex.", model="tiny")
        logged = caplog.text
        assert response.id in logged
        assert ("Rex" in logged) == texts

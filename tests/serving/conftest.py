"""Servers that tests of this folder share."""

from collections.abc import Iterator

import httpx
import pytest

from pretrained_models import save_language_model
from running_server import Running, running
from rxlm.rxt.models import RxTAlpha
from rxlm.upcycling.model import upcycle
from text_models import tiny_text_model

KINDS = ("slots", "retained")


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, RxTAlpha]:
    folder = tmp_path_factory.mktemp("language-model")
    save_language_model("llama", folder)
    return {"slots": tiny_text_model(), "retained": upcycle(folder, memory_tokens=32, max_seq_len=48)}


@pytest.fixture(scope="module", params=KINDS)
def server(request, models):
    with running(models[request.param]) as run:
        yield run


@pytest.fixture(params=KINDS)
def run(request, models) -> Iterator[Running]:
    """A server of the test's own."""
    with running(models[request.param]) as made:
        yield made


@pytest.fixture
def http(run: Running) -> httpx.Client:
    return run.http()

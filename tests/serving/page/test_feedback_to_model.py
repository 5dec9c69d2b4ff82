"""The way from the page to a better model: feedback is given, exported and trained on, and the page asks the result."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Locator, expect

from pretrained_models import save_language_model
from running_server import running
from rxlm.cli import main
from rxlm.data.preference_files import read_preferences
from rxlm.data.preferences import Preference
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.rxt.models import RxTAlpha
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.continuations import likelihood
from rxlm.upcycling.model import upcycle
from serving.page.driver import Driver, Server

HONEST = "You have not told me that."
ASKED = ("What is my name?", "Where do I live?", "What is my job?", "What is my favourite food?")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with the page over an upcycled model, in place of the fake one; its store is a file."""
    save_language_model("llama", tmp_path / "llama")
    upcycle(tmp_path / "llama", memory_tokens=80, max_seq_len=64).save_pretrained(tmp_path / "model")
    with running(RxTAlpha.from_pretrained(tmp_path / "model"), tmp_path / "store.sqlite") as found:
        yield Server(found.address, found.key, None)


def set_settings(tab: Driver, **settings: Any) -> None:
    tab.page.evaluate(f"localStorage.setItem('rxlm.settings', '{json.dumps(settings)}')")
    tab.reload()


def give_ten_remarks(tab: Driver) -> None:
    """What a person does on the page: answers are rated, edited and compared."""
    set_settings(tab, max_output_tokens=6)
    for number, text in enumerate(ASKED):
        rate(tab, tab.say("My dog is called Rex."), "Bad answer" if number % 2 else "Good answer")
        edit(tab, tab.say(text), HONEST)
        tab.button("New conversation").click()
        expect(tab.page.locator(".welcome h1")).to_be_visible()
    tab.say("Hello!")
    set_settings(tab, max_output_tokens=6, temperature=2.0, seed=1)
    tab.last.get_by_label("Retry").click()
    tab.button("The earlier answer").click()
    expect(tab.page.locator(".comparison")).to_have_count(0)
    edit(tab, tab.last, "Hello! How can I help?")


def rate(tab: Driver, turn: Locator, rating: str) -> None:
    turn.get_by_label(rating).click()
    asked = tab.dialog.get_by_role("button", name="Store my ratings")
    expect(asked.or_(turn.locator("[aria-pressed=true]")).first).to_be_visible()
    if asked.is_visible():
        asked.click()
    expect(turn.get_by_label(rating)).to_have_attribute("aria-pressed", "true")


def edit(tab: Driver, turn: Locator, text: str) -> None:
    tab.menu(turn, "Write a better answer")
    tab.page.get_by_label("Better answer").fill(text)
    tab.button("Store").click()
    expect(turn.get_by_text("Your better answer")).to_be_visible()


@torch.no_grad()
def margins(folder: Path, pairs: list[Preference]) -> list[float]:
    """By how many nats a model prefers the better answers."""
    model = RxTAlpha.from_pretrained(folder)
    tokenizer = TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=model.max_seq_len)
    better, worse = likelihood(model, feedback_batch(pairs, tokenizer), unroll=1).log_probs.chunk(2)
    return (better - worse).tolist()


def test_ten_remarks_on_the_page_become_a_model_that_the_server_loads(
    tab: Driver, new_tab_at: Callable[[Server], Driver], tmp_path: Path
) -> None:
    store, file, run = tmp_path / "store.sqlite", tmp_path / "preferences.jsonl", tmp_path / "run"
    give_ten_remarks(tab)

    assert main(["feedback", "export", str(store), "--output", str(file)]) == 0
    assert len(file.read_text().splitlines()) == 10
    read = read_preferences(file)
    edited = [each for each in read.pairs if each.chosen[0].answer == HONEST]
    assert [each.chosen[0].query for each in edited] == list(ASKED)
    assert all(each.before[0].query == "My dog is called Rex." for each in edited)
    assert (len(read.pairs), len(read.rated)) == (6, 4)

    words = [
        "train", "upcycled", "feedback", "--model", str(tmp_path / "model"), "--preferences", str(file),
        "--output", str(run), "--retention", "null", "--max-seq-len", "64", "--mix.open-values", "20",
        "--mix.test-dialogues", "[1, 1]", "--mix.test-turns", "[4, 5]", "--feedback.steps", "8",
        "--feedback.batch-size", "4", "--feedback.optimizer.learning-rate", "1e-3", "--feedback.settings.loss", "kto",
    ]  # fmt: skip
    assert main(words) == 0
    before, after = margins(tmp_path / "model", edited), margins(run, edited)
    assert all(new > old for old, new in zip(before, after, strict=True))
    tables = json.loads((run / "results.json").read_text())["tables"]
    assert tables[0]["title"] == "What 6-feedback changed"
    assert (run / "report" / "6-feedback-pairs.html").is_file()

    with running(RxTAlpha.from_pretrained(run), store) as server:
        later = new_tab_at(Server(server.address, server.key, None))
        later.open()
        later.say("Hello!")

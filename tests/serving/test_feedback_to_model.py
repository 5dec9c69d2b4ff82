"""The way from the page to a better model: feedback is given, exported, trained on, and the server loads the result."""

import json
from pathlib import Path

import torch

from pretrained_models import save_language_model
from running_server import Running, running
from rxlm.cli import main
from rxlm.data.preference_files import read_preferences
from rxlm.data.preferences import Preference
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.rxt.models import RxTAlpha
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.continuations import likelihood
from rxlm.upcycling.model import upcycle

HONEST = "You have not told me that."
ASKED = ("What is my name?", "Where do I live?", "What is my job?", "What is my favourite food?")


def say(server: Running, conversation: str, text: str) -> str:
    return server.client().responses.create(model="tiny", input=text, conversation=conversation, max_output_tokens=6).id


def give_ten_remarks(server: Running) -> None:
    """What a person does on the page: answers are edited, compared and rated."""
    http = server.http()

    def give(response: str, **values: str) -> None:
        http.post("/v1/rxlm/feedback", json={"response_id": response, **values}).raise_for_status()

    for number, text in enumerate(ASKED):
        name = server.client().conversations.create().id
        first = say(server, name, "My dog is called Rex.")
        answer = say(server, name, text)
        give(answer, edit=HONEST)
        give(first, rating="up" if number % 2 else "down")
    name = server.client().conversations.create().id
    worse = say(server, name, "Hello!")
    http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": None}).raise_for_status()
    better = say(server, name, "Hello!")
    give(better, better_than=worse)
    give(worse, edit="Hello! How can I help?")


@torch.no_grad()
def margins(folder: Path, pairs: list[Preference]) -> list[float]:
    """By how many nats a model prefers the better answers."""
    model = RxTAlpha.from_pretrained(folder)
    tokenizer = TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=model.max_seq_len)
    better, worse = likelihood(model, feedback_batch(pairs, tokenizer), unroll=1).log_probs.chunk(2)
    return (better - worse).tolist()


def test_ten_remarks_of_the_page_become_a_model_that_the_server_loads(tmp_path: Path) -> None:
    save_language_model("llama", tmp_path / "llama")
    upcycle(tmp_path / "llama", memory_tokens=80, max_seq_len=64).save_pretrained(tmp_path / "model")
    store, file, run = tmp_path / "store.sqlite", tmp_path / "preferences.jsonl", tmp_path / "run"
    with running(RxTAlpha.from_pretrained(tmp_path / "model"), store) as server:
        give_ten_remarks(server)

    assert main(["feedback", "export", str(store), "--output", str(file)]) == 0
    assert len(file.read_text().splitlines()) == 10
    read = read_preferences(file, bad_records="skip")
    edited = [each for each in read.pairs if each.chosen[0].answer == HONEST]
    assert [each.chosen[0].query for each in edited] == list(ASKED)
    assert all(each.before[0].query == "My dog is called Rex." for each in edited)
    assert len(read.rated) == 4

    words = [
        "train", "upcycled", "feedback", "--model", str(tmp_path / "model"), "--preferences", str(file),
        "--output", str(run), "--retention", "null", "--max-seq-len", "64", "--mix.open-values", "20",
        "--mix.test-dialogues", "[1, 1]", "--mix.test-turns", "[4, 5]", "--feedback.steps", "20",
        "--feedback.batch-size", "4", "--feedback.optimizer.learning-rate", "1e-3", "--feedback.bad-records", "skip",
    ]  # fmt: skip
    assert main(words) == 0
    before, after = margins(tmp_path / "model", edited), margins(run, edited)
    assert all(new > old for old, new in zip(before, after, strict=True))
    tables = json.loads((run / "results.json").read_text())["tables"]
    assert tables[0]["title"] == "What 6-feedback changed"

    with running(RxTAlpha.from_pretrained(run), store) as server:
        assert server.client().responses.create(model="tiny", input="Hello!", max_output_tokens=4).output_text

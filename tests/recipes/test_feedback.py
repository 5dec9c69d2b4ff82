"""Stage 6 of the recipes: trained where it is named, on the generator's preferences or on people's."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from torch import Tensor

from html_pages import Reader
from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.recipes import tiny
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.recipes.recipe import ReactiveRecipe
from rxlm.reporting.pairs import write_pairs
from rxlm.rxt.models import RxTAlpha
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.continuations import likelihood
from rxlm.upcycling.model import upcycle
from small_recipes import note_what_is_asked, quick

PROMPT = [{"role": "user", "content": "What is my name?"}]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def rated(text: str, label: bool) -> dict[str, Any]:
    return {"prompt": PROMPT, "completion": answer(text), "label": label}


PAIR = {"prompt": PROMPT, "chosen": answer("You have not told me."), "rejected": answer("Your name is Anna.")}
SAME = {"prompt": PROMPT, "chosen": answer("No."), "rejected": answer("No.")}


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def short_recipe() -> ReactiveRecipe:
    """The recipe tiny in few steps, without what this file does not look at."""
    recipe = quick(tiny().without_stages("language", "memory_attention", "streams"), test_dialogues=(1,))
    recipe = recipe.with_stage("dialogues", evaluate_every=None)
    few: dict[str, Any] = {"phases": (DialoguePhase(steps=2, num_turns=3),), "steps": 2, "batch_size": 4}
    few["settings"] = recipe.stage("rlhf").settings.replace(critic_warmup=0)
    return recipe.with_stage("rlhf", **few, log_every=1, evaluate_every=None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose usual stages are trained; tests work on copies."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    ReactiveRun(short_recipe(), folder).train()
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> ReactiveRun:
    """A run whose usual stages are trained."""
    return ReactiveRun(short_recipe(), copytree(trained, tmp_path / "run"))


def weights(model: RxTAlpha) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def test_tiny_learns_from_its_generator_and_shows_what_that_changed(
    run: ReactiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_what_is_asked(monkeypatch)
    monkeypatch.setattr("rxlm.recipes.facts.JUDGED", 2)
    assert not (run.folder / "6-feedback").exists(), "trained only where it is named"
    before, model = weights(run.train()), run.train("feedback")
    assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    changed, recall = run.results(model).tables
    assert (changed.title, recall.title) == ("What 6-feedback changed", "Exact recall by distance in turns")
    assert [row[0] for row in changed.rows] == ["never told", "recall", "stale", "perplexity"]
    asked = [row[1].partition(" ")[2] for row in changed.rows[:3]]
    assert [row[2].partition(" ")[2] for row in changed.rows[:3]] == asked, "the same questions"
    logged = [json.loads(line) for line in (run.folder / "6-feedback" / "metrics.jsonl").read_text().splitlines()]
    assert {"rewards/margins", "rewards/accuracies", "logps/chosen", "chosen_loss"} <= set(logged[-1])
    loaded = RxTAlpha.from_pretrained(run.folder)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), "the finished model is the one after the stage"
    assert_pairs_are_shown(run)


def assert_pairs_are_shown(run: ReactiveRun) -> None:
    """Assert that there is a page of pairs with their margins before the stage feedback and after it."""
    stage = run.recipe.stage("feedback")
    records = [json.loads(line) for line in (run.folder / "6-feedback" / "pairs.jsonl").read_text().splitlines()]
    pairs = run.corpus.preferences(run.maker(stage))[: len(records)]
    models = [run.model_before(stage), RxTAlpha.from_pretrained(run.folder)]
    for model, when in zip(models, ("before", "after"), strict=True):
        with torch.no_grad():
            likely = likelihood(model.eval(), feedback_batch(pairs, run.turn_tokenizer), unroll=1).log_probs
        better, worse = likely.chunk(2)
        assert [record[when] for record in records] == pytest.approx((better - worse).tolist(), abs=1e-3)
    page = write_pairs(run.folder / "6-feedback" / "pairs.jsonl", run.folder / "pairs.html")
    (table,) = Reader(page.read_text()).tables()
    first = pairs[0]
    assert table[1][:4] == [first.chosen[0].query, first.chosen[0].answer, first.rejected[0].answer, first.differs]
    assert len(table) == len(records) + 1 > 10


def test_an_upcycled_model_learns_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    note_what_is_asked(monkeypatch)
    file = write(tmp_path / "p.jsonl", PAIR, SAME, rated("You have not told me.", True), rated("Anna.", False))
    save_language_model("llama", tmp_path / "llama")
    upcycle(tmp_path / "llama", memory_tokens=80, max_seq_len=64).save_pretrained(tmp_path / "model")
    words = [
        "train", "upcycled", "feedback", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "run"),
        "--max-seq-len", "64", "--retention", "null", "--mix.open-values", "20", "--mix.test-dialogues", "[1, 1]",
        "--mix.test-turns", "[4, 5]", "--feedback.steps", "2", "--feedback.batch-size", "2",
        "--preferences", str(file),
    ]  # fmt: skip
    assert main(words) == 1
    assert f"{file}, line 2: chosen and rejected are the same" in capsys.readouterr().err
    assert main([*words, "--feedback.bad-records", "skip"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Your preferences: 1 pairs and 2 rated answers; feedback learns from 2." in shown
    assert f"1 records cannot be used and are skipped: {file}, line 2" in shown
    assert "What 6-feedback changed" in shown
    assert RxTAlpha.from_pretrained(tmp_path / "run").needed_tokenizer()


def test_ratings_alone_are_refused_with_the_loss_that_learns_from_them(run: ReactiveRun, tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", rated("You have not told me.", True), rated("I see.", True))
    stage = run.recipe.stage("feedback").replace(preferences=(str(file),))
    expected = (
        "nothing that feedback learns from: 0 pairs and 2 rated answers. From answers that were rated one by one learns"
    )
    with pytest.raises(ConfigError, match=expected):
        stage.notes(run.turn_tokenizer, run.folder)
    (note,) = stage.replace(settings=PreferenceConfig(loss="kto")).notes(run.turn_tokenizer, run.folder)
    assert "feedback learns from 2" in note


@pytest.mark.parametrize("stage", ["feedback", "reward"])
def test_files_of_preferences_are_for_the_stage_that_is_named(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "tiny", stage, "--dry-run", "--preferences", "a.jsonl", "b.jsonl", "--output", "reward"]
    assert main(words) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    given = {each: stages[each]["preferences"] for each in ("feedback", "reward")}
    assert given == {"feedback": [], "reward": []} | {stage: ["a.jsonl", "b.jsonl"]}


def test_preferences_for_a_stage_that_is_not_named_are_no_secret(run: ReactiveRun) -> None:
    run.recipe = run.recipe.with_stage("feedback", preferences=("p.jsonl",))
    (note,) = run.notes()
    assert note.startswith("p.jsonl: nothing learns from it now.")
    assert note.endswith("rxlm train tiny feedback")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('feedback.preferences="p.jsonl"', "preferences must be a list of a text, got 'p.jsonl'"),
        ("feedback.bad_records=drop", "bad_records must be one of 'stop', 'skip'"),
        ("feedback.settings.loss=ppo", "loss must be one of"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny().override([change])


def test_a_reward_model_is_trained_measured_and_used_as_a_reward(
    run: ReactiveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for act in (run.notes, run.train):
        with pytest.raises(ConfigError, match="rlhf needs a reward model, and there is none in"):
            act("rlhf")
    policy = weights(run.train("reward"))
    for name, weight in run.train("dialogues").state_dict().items():
        assert torch.equal(policy[name], weight), "the model stays as it is"
    reward = str(run.folder / "6-reward" / "reward")

    assert main(["bench", "reward", reward, "--pairs", "20", "--turns", "4"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("never told", "from memory alone", "without memory"))
    file = write(tmp_path / "p.jsonl", PAIR, rated("Yes.", True))
    assert main(["bench", "reward", reward, "--preferences", str(file)]) == 0
    assert "chosen is longer" in capsys.readouterr().out

    later = run.recipe.with_stage("feedback", preferences=(str(file),))
    assert ReactiveRun(later, run.folder).recipe == later, "a stage on request that has not begun may still change"

    trained = run.train("rlhf")
    run.train("reward")
    for name, weight in RxTAlpha.from_pretrained(run.folder).state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name]), "a reward model takes no other model's place"
    assert any(not torch.equal(policy[name], weight) for name, weight in trained.state_dict().items())
    logged = [json.loads(line) for line in (run.folder / "6b-rlhf" / "metrics.jsonl").read_text().splitlines()]
    assert 0 < logged[-1]["rewards/preference/mean"] < 1
    assert {"rewards/exact/mean", "rewards/length/mean", "kl"} <= set(logged[-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('mrl.rewards=[["luck", 1.0]]', "rewards must be pairs of a name and a weight, of exact, .*, preference"),
        ("mrl.reward_model=somewhere", "reward_model must be None where no reward is called 'preference'"),
    ],
)
def test_rewards_that_cannot_be_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny().override([change])

"""Stage 6 of the recipes: trained where it is named, on the generator's preferences or on people's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.recipes import tiny
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.rxt.models import RxTAlpha
from rxlm.upcycling.model import upcycle
from small_recipes import quick

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


def test_tiny_learns_from_its_generator_and_shows_what_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rxlm.recipes.facts.JUDGED", 6)
    recipe = quick(tiny().without_stages("language", "memory_attention", "streams"))
    run = ReactiveRun(recipe, tmp_path)
    plain = run.train()
    assert not (tmp_path / "6-feedback").exists(), "trained only where it is named"
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    assert [table.title for table in run.results(plain).tables] == ["Exact recall by distance in turns"]

    model = run.train("feedback")
    assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    changed, _ = run.results(model).tables
    assert changed.title == "What 6-feedback changed"
    assert [row[0] for row in changed.rows] == ["never told", "recall", "stale", "perplexity"]
    asked = [row[1].partition(" ")[2] for row in changed.rows[:3]]
    assert [row[2].partition(" ")[2] for row in changed.rows[:3]] == asked, "the same questions"
    logged = [json.loads(line) for line in (tmp_path / "6-feedback" / "metrics.jsonl").read_text().splitlines()]
    assert {"rewards/margins", "rewards/accuracies", "logps/chosen", "chosen_loss"} <= set(logged[-1])
    loaded = RxTAlpha.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), "the finished model is the one after the stage"


def words_for(folder: Path, *more: str) -> list[str]:
    """Return the command that teaches an upcycled model in a folder."""
    save_language_model("llama", folder / "llama")
    upcycle(folder / "llama", memory_tokens=80, max_seq_len=64).save_pretrained(folder / "model")
    return [
        "train", "upcycled", "feedback", "--model", str(folder / "model"), "--output", str(folder / "run"),
        "--max-seq-len", "64", "--retention", "null", "--mix.open-values", "20", "--mix.test-dialogues", "[2, 1]",
        "--mix.test-turns", "[4, 5]", "--feedback.steps", "3", "--feedback.batch-size", "2", *more,
    ]  # fmt: skip


def test_an_upcycled_model_learns_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "p.jsonl", PAIR, SAME, rated("You have not told me.", True), rated("Anna.", False))
    words = words_for(tmp_path, "--preferences", str(file))
    assert main(words) == 1
    assert f"{file}, line 2: chosen and rejected are the same" in capsys.readouterr().err
    assert main([*words, "--feedback.bad-records", "skip"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Your preferences: 1 pairs and 2 rated answers; feedback learns from 2." in shown
    assert f"1 records cannot be used and are skipped: {file}, line 2" in shown
    assert "What 6-feedback changed" in shown
    assert RxTAlpha.from_pretrained(tmp_path / "run").needed_tokenizer()


def test_ratings_alone_are_refused_with_the_loss_that_learns_from_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "p.jsonl", rated("You have not told me.", True), rated("I see.", True))
    words = words_for(tmp_path, "--preferences", str(file))
    assert main(words) == 1
    expected = (
        "nothing that feedback learns from: 0 pairs and 2 rated answers. From answers that were rated one by one learns"
    )
    assert expected in capsys.readouterr().err
    assert main([*words, "--feedback.settings.loss", "kto"]) == 0
    assert "feedback learns from 2" in capsys.readouterr().out


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = quick(tiny().without_stages("language", "memory_attention", "streams"))
    few: dict[str, Any] = {
        "phases": (DialoguePhase(steps=2, num_turns=3),),
        "steps": 2,
        "batch_size": 4,
        "log_every": 1,
    }
    few["settings"] = recipe.stage("rlhf").settings.replace(critic_warmup=0)
    run = ReactiveRun(recipe.with_stage("rlhf", **few, evaluate_every=None), tmp_path)
    with pytest.raises(ConfigError, match="rlhf needs a reward model, and there is none in"):
        run.train("rlhf")
    policy = {name: weight.clone() for name, weight in run.train("reward").state_dict().items()}
    for name, weight in run.train("dialogues").state_dict().items():
        assert torch.equal(policy[name], weight), "the model stays as it is"

    assert main(["bench", "reward", str(tmp_path / "6-reward" / "reward"), "--pairs", "20", "--turns", "4"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("never told", "from memory alone", "without memory"))
    file = write(tmp_path / "p.jsonl", PAIR, rated("Yes.", True))
    assert main(["bench", "reward", str(tmp_path / "6-reward" / "reward"), "--preferences", str(file)]) == 0
    assert "chosen is longer" in capsys.readouterr().out

    later = run.recipe.with_stage("feedback", preferences=(str(file),))
    assert ReactiveRun(later, tmp_path).recipe == later, "a stage on request that has not begun may still change"

    trained = run.train("rlhf")
    run.train("reward")
    for name, weight in RxTAlpha.from_pretrained(tmp_path).state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name]), "a reward model takes no other model's place"
    assert any(not torch.equal(policy[name], weight) for name, weight in trained.state_dict().items())
    logged = [json.loads(line) for line in (tmp_path / "6b-rlhf" / "metrics.jsonl").read_text().splitlines()]
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

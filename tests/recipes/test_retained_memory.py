"""A recipe with a memory of tokens in place of slots: no more bytes, all stages run, and everything learns."""

import json
from pathlib import Path

import pytest
import torch

from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.recipes import RECIPES, ReactiveRecipe, tiny
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.recipes.stages import RetentionStage, steps_of
from rxlm.rxt.models import RxTAlpha
from small_recipes import ASKED

RECIPES_WITH_SLOTS = [name for name, make in RECIPES.items() if isinstance(make(), ReactiveRecipe)]


@pytest.mark.parametrize("name", RECIPES_WITH_SLOTS)
def test_it_has_no_more_bytes_than_the_slots_and_comes_back_from_json(name: str) -> None:
    slots, recipe = RECIPES[name](), RECIPES[name]().with_memory("retained")
    with torch.device("meta"):
        bytes_of_slots, num_bytes = (each.memory.build().num_bytes(4) for each in (slots, recipe))

    assert 0.95 * bytes_of_slots < num_bytes <= bytes_of_slots
    assert type(recipe).from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.with_memory("retained") is recipe
    with pytest.raises(ConfigError, match="has no slots any more"):
        recipe.with_memory("slots")


def test_the_command_takes_it_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dialogues.settings.sizes", "[12]", "--memory", "retained", "--memory.num-tokens", "20"]
    assert main(["train", "tiny", *options, "--dry-run"]) == 0
    printed = json.loads(capsys.readouterr().out)

    assert printed["memory"]["num_tokens"] == 20
    assert printed["stages"]["dialogues"]["settings"]["sizes"] == [12]
    assert printed["encoder"] is None


def test_it_trains_saves_and_answers(tmp_path: Path) -> None:
    recipe = tiny().with_memory("retained")
    recipe = recipe.replace(
        decoder=recipe.decoder.replace(dim=16, num_heads=4, num_query_heads=2, num_kv_heads=1),
        memory=recipe.memory.replace(dim=16, num_kv_heads=1, head_dim=4),
        **ASKED,
        stages=[stage.replace(batch_size=4, log_every=1, **_few(stage)) for stage in recipe.stages],
    )
    run = ReactiveRun(recipe, tmp_path)
    before = {name: weight.clone() for name, weight in run.new_model().named_parameters()}
    model = run.train()

    unchanged = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    assert unchanged == []
    assert RxTAlpha.from_pretrained(tmp_path).memory_writer.config.answer_end == (run.tokens.eos_token_id,)
    assert run.results(model).tables[0].rows


def _few(stage: object) -> dict[str, object]:
    if isinstance(stage, RetentionStage):
        return {**steps_of(DialoguePhase(steps=3, num_turns=4)), "evaluate_every": 3}
    return {"steps": 2}

"""The recipe `upcycled` on a tiny language model."""

from pathlib import Path

from pretrained_models import save_language_model
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.upcycled import UpcycledRun, upcycled
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.training.retention.config import RetentionConfig


def test_adapters_are_merged_before_the_stage_s_model_is_saved(tmp_path: Path) -> None:
    save_language_model("llama", tmp_path / "llama")
    recipe = upcycled()
    phases = (DialoguePhase(steps=2, num_turns=3),)
    stage = recipe.stages[0].replace(
        phases=phases, steps=2, batch_size=2, accumulation=1, settings=RetentionConfig(lora_rank=2, sizes=(80,))
    )
    recipe = recipe.replace(
        model=str(tmp_path / "llama"),
        max_seq_len=64,
        memory_tokens=80,
        stages=(stage,),
        mix=UpcycledMix(open_values=20),
    )
    model = UpcycledRun(recipe, tmp_path / "run").train()
    for folder in (tmp_path / "run", tmp_path / "run" / "4-retention" / "model"):
        loaded = RxTAlpha.from_pretrained(folder)
        assert list(loaded.state_dict()) == list(model.state_dict())
        assert not any("lora" in name for name in loaded.state_dict())

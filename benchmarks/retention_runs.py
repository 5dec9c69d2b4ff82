"""Retention training of a model with random weights on generated dialogues, for benchmarks of its memory and speed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.recipes import open_run, tiny
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.stages import RetentionStage, steps_of
from rxlm.recipes.training_run import TrainingRun
from rxlm.training import distributed
from rxlm.training.distributed import Parallel
from rxlm.training.retention.config import RetentionConfig

TOKENS = 48
"""Of the longest turn."""


@dataclass(frozen=True)
class Shape:
    """The size of a Llama-style model."""

    dim: int = 512
    num_layers: int = 8
    num_heads: int = 8
    num_kv_heads: int = 2
    ff_dim: int = 1536


def retention_run(
    folder: Path, shape: Shape, device: str, parallel: Parallel, num_turns: int, settings: RetentionConfig,
    window_turns: int | None = None, **loop: Any,
) -> tuple[TrainingRun[Any, Any], RetentionStage]:  # fmt: skip
    """Return a run and its stage; the model before it is saved in `folder / "start"`, by one process."""
    recipe = tiny().with_memory("retained")
    heads = {"num_heads": shape.num_heads, "num_query_heads": shape.num_heads, "num_kv_heads": shape.num_kv_heads}
    size = {"dim": shape.dim, "num_layers": shape.num_layers, "max_seq_len": TOKENS}
    decoder = recipe.decoder.replace(
        **size, **heads, ff_dim=shape.ff_dim, max_positions=2 * num_turns * TOKENS,
        retention_gate=RetentionGateConfig(hidden_dim=64),
    )  # fmt: skip
    head_dim = shape.dim // shape.num_heads
    memory = recipe.memory.replace(**size, num_kv_heads=shape.num_kv_heads, head_dim=head_dim, num_tokens=64)
    phase = DialoguePhase(steps=loop.pop("steps"), num_turns=num_turns, window_turns=window_turns)
    stage = RetentionStage(**steps_of(phase), checkpoint_every=None, log_every=1, settings=settings, **loop)
    run = open_run(recipe.replace(decoder=decoder, memory=memory, stages=(stage,)), folder / "run", device, parallel)
    if distributed.rank() == 0 and not (folder / "start").is_dir():
        run.new_model().save_pretrained(folder / "start")
    distributed.wait()
    return run, stage

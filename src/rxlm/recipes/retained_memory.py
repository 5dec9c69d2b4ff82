"""The same recipe with another memory: tokens that are kept, in place of slots.

What only slots need goes: the encoder, memory attention, and stage 3. Stages 1 and 2 teach the decoder alone, and
stage 4 becomes retention training on whole dialogues. Stage 5 is left out: it has not been tried with such a memory.
"""

from dataclasses import fields
from typing import Any

from rxlm.config import require
from rxlm.memory.retained.config import RetainedMemoryConfig
from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.recipes.feedback import PreferenceStage
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.stages import (
    JointStage,
    MemoryAwareStage,
    RetentionStage,
    StageConfig,
    steps_of,
)
from rxlm.rxt.config import DecoderConfig, RxTAlphaTokenizerConfig
from rxlm.training.config import TrainingConfig
from rxlm.training.retention.config import RetentionConfig

LONGEST_HISTORY = 8
"""Positions of the decoder, in longest turns: what was said longer ago is read as if it were that old."""
GATES_RATE = 2.0
"""Learning rate of the gates, over that of the rest."""
COOLING = 0.6
"""Share of the steps in which the temperature falls."""


def with_retained_memory(recipe: Any) -> Any:
    """Return a recipe of a Reactive Transformer with a memory of tokens that has the bytes of its slots, at most."""
    slots, decoder = recipe.memory, recipe.decoder
    require(isinstance(slots, MemoryAttentionConfig), f"Recipe {recipe.name!r} has a memory of tokens already: memory.")
    memory = retained_memory(decoder, slots.build().num_bytes(4))
    stages = [stage for each in recipe.stages if (stage := _stage(each, memory.num_tokens)) is not None]
    return recipe.replace(
        decoder=decoder.replace(
            memory_reader=None,
            retention_gate=RetentionGateConfig(hidden_dim=max(8, decoder.dim // 4)),
            max_positions=LONGEST_HISTORY * decoder.max_seq_len,
        ),
        encoder=None,
        memory=memory,
        stages=stages,
    )


def retained_memory(decoder: DecoderConfig, num_bytes: int) -> RetainedMemoryConfig:
    """Return a memory for a decoder that takes so many bytes, in float32, or a little less."""
    memory = RetainedMemoryConfig(
        num_layers=decoder.num_layers,
        dim=decoder.dim,
        max_seq_len=decoder.max_seq_len,
        num_kv_heads=decoder.attention_heads[1],
        head_dim=decoder.width_of_head,
        num_sinks=1,
        answer_end=(RxTAlphaTokenizerConfig().eos_token_id,),
    )
    one = memory.replace(num_tokens=2).build().num_bytes(4) // 2
    return memory.replace(num_tokens=max(16, num_bytes // one))


def _stage(stage: StageConfig, num_tokens: int) -> StageConfig | None:
    """Return what a stage becomes; None where it has no meaning."""
    if isinstance(stage, JointStage):
        return stage
    if not isinstance(stage, MemoryAwareStage):
        return stage if isinstance(stage, PreferenceStage) else None
    fields_of_stage: dict[str, Any] = {
        **{field.name: getattr(stage, field.name) for field in fields(TrainingConfig)},
        **steps_of(*map(_whole, stage.phases)),
        "optimizer": stage.optimizer.replace(memory_scale=GATES_RATE),
        "settings": RetentionConfig(
            sizes=(num_tokens,),
            cooling_steps=max(1, int(COOLING * stage.steps)),
            from_scratch=True,
            wording_weight=1.0,
            wording_share=1.0,
            keep=0.0,
        ),
    }
    return RetentionStage(folder=stage.folder, **fields_of_stage)


def _whole(phase: DialoguePhase) -> DialoguePhase:
    """Return a phase of dialogues that are whole: in place of streams, dialogues of twice the turns."""
    if not phase.streams:
        return phase
    return DialoguePhase(steps=phase.steps, num_turns=2 * phase.num_turns, batch_size=phase.batch_size)

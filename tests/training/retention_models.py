"""Tiny upcycled models with retention gates, and dialogues for them."""

from pathlib import Path
from typing import Any

import torch

from pretrained_models import save_language_model
from rxlm.data.batches import DialogueBatch
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Dialogue
from rxlm.data.samplers import ShuffledBatches
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.data.windows import WindowedDialogues
from rxlm.memory.retained.gate import Granularity, RetentionGateConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.retention.module import Retention
from rxlm.training.trainer import Trainer
from rxlm.upcycling.model import upcycle

SIZE = 40


def language_model(path: Path) -> Path:
    """Return the folder of a new language model."""
    save_language_model("llama 3, tied, biased", path)
    return path


def gated(folder: Path, seed: int | None = 1, granularity: Granularity = "head") -> RxTAlpha:
    """Return an upcycled model whose gates are random, or neutral; what its attention finds tells."""
    gates = RetentionGateConfig(hidden_dim=8, granularity=granularity)
    model = upcycle(folder, memory_tokens=SIZE, max_seq_len=64, gates=gates)
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.attention.out_proj.weight.mul_(8.0)
    if seed is not None:
        torch.manual_seed(seed)
        for gate in (layer.retention_gate for layer in model.decoder.layers if layer.retention_gate is not None):
            torch.nn.init.normal_(gate.out_proj.weight)
    return model


def learns(model: RxTAlpha, **settings: Any) -> Retention:
    """Return the module that teaches a model, ready for its first step."""
    module = Retention(model, RetentionConfig(sizes=(SIZE,), **settings))
    module.start_step(0)
    return module


def facts(model: RxTAlpha, count: int = 3, num_turns: int = 5) -> DialogueBatch:
    dialogues = FactGenerator(FactsConfig(variety="full", num_turns=num_turns)).dialogues(count)
    return batch_of(model, [dialogues[number] for number in range(count)])


def batch_of(model: RxTAlpha, dialogues: list[Dialogue]) -> DialogueBatch:
    tokenizer = TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=64)
    return tokenizer.dialogue_batch(dialogues)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def trainer(
    model: RxTAlpha, settings: RetentionConfig, run: Path, steps: int, window_turns: int | None = None
) -> Trainer:
    """Return a run of some steps on dialogues of four turns, with a checkpoint after each step."""
    config = TrainingConfig(
        steps=steps,
        batch_size=2,
        precision="float32",
        log_every=1,
        checkpoint_every=1,
        optimizer=OptimizerConfig(learning_rate=0.01, schedule="constant", warmup_steps=1),
    )
    tokenizer = TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=64)
    dialogues = FactGenerator(FactsConfig(variety="full", num_turns=4)).dialogues(20)
    batches = ShuffledBatches(dialogues, tokenizer.dialogue_batch, batch_size=2)
    windows = batches if window_turns is None else WindowedDialogues(batches, window_turns)
    return Trainer("retention", Retention(model, settings), windows, config, run)

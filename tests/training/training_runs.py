"""Tiny runs of the stages on generated dialogues, for tests of the loop."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.loaders import stream_dialogues, stream_texts
from rxlm.data.packing import PackedTexts, TextPacker
from rxlm.data.samplers import ShuffledBatches, StreamedBatches
from rxlm.data.shuffled_records import ShuffledRecords
from rxlm.data.streams import ConversationStreams, StreamedConversations
from rxlm.data.tokenizer import train_tokenizer
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.rxt.config import RxTComponentConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.text import token_ids_of
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.distributed import Parallel
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_attention import MemoryAttentionPretraining, MemoryAttentionTrainingConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.module import TrainModule
from rxlm.training.trainer import Batches, Trainer

STAGES = ("text", "joint", "memory_attention", "memory_aware", "streams")


def facts(num_turns: int = 4) -> FactGenerator:
    return FactGenerator(FactsConfig(num_turns=num_turns))


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(texts_of(facts().dialogues(200)), 400)


def model(seed: int = 0, **memory: Any) -> RxTAlpha:
    torch.manual_seed(seed)
    shape = {"num_layers": 2, "dim": 16, "num_heads": 2, "num_slots": 4, "max_seq_len": 64}
    component = RxTComponentConfig(**shape, vocab_size=len(tokenizer()), ff_dim=24)
    attention = MemoryAttentionConfig(**{**shape, "variant": "simple", **memory})
    return RxTAlpha(component, component, attention, token_ids_of(tokenizer()), tokenizer())


def encoder() -> TurnTokenizer:
    return TurnTokenizer(tokenizer(), token_ids_of(tokenizer()), max_tokens=64)


def stage(name: str, network: RxTAlpha) -> TrainModule:
    if name in ("text", "streamed_text", "joint"):
        return JointLanguageModelling(network, JointConfig(targets="answer" if name == "joint" else "all"))
    if name == "memory_attention":
        return MemoryAttentionPretraining(network, MemoryAttentionTrainingConfig())
    return MemoryAware(network, MemoryAwareConfig(unroll=2))


def batches(name: str, batch_size: int = 4, **processes: int) -> Batches:
    if name == "streamed_text":
        source = stream_texts([{"text": text} for text in texts_of(facts().dialogues(40))])
        texts = ShuffledRecords(source, shuffle_buffer=20, **processes)
        packer = TextPacker(tokenizer(), token_ids_of(tokenizer()), 32)
        return StreamedBatches(PackedTexts(texts, packer), packer.batch, batch_size=batch_size)
    if name == "streamed_dialogues":
        dialogues = ShuffledRecords(stream_dialogues(facts().dialogues(40)), shuffle_buffer=20, **processes)
        return StreamedConversations(dialogues, encoder(), batch_size=batch_size, turns_per_batch=3, **processes)
    if name == "text":
        packer = TextPacker(tokenizer(), token_ids_of(tokenizer()), 32)
        rows = list(packer.pack(texts_of(facts().dialogues(40))))
        return ShuffledBatches(rows, packer.batch, batch_size=batch_size, **processes)
    if name == "joint":
        turns = [turn for dialogue in facts().dialogues(20) for turn in dialogue.turns]
        return ShuffledBatches(turns, encoder().interaction_batch, batch_size=batch_size, **processes)
    if name == "streams":
        return ConversationStreams(
            facts().stream, encoder(), batch_size=batch_size, turns_per_batch=3, reset_probability=0.3, **processes
        )
    return ShuffledBatches(facts().dialogues(40), encoder().dialogue_batch, batch_size=batch_size, **processes)


class SameBatch:
    """A source of one batch, again and again."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __next__(self) -> Any:
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        pass


def trainer(
    name: str,
    folder: Path,
    network: RxTAlpha | None = None,
    module: TrainModule | None = None,
    parallel: Parallel = "ddp",
    **changes: Any,
) -> Trainer:
    config = TrainingConfig(
        steps=6,
        precision="float32",
        batch_size=4,
        log_every=1,
        checkpoint_every=2,
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=2),
    ).replace(**changes)
    module = module or stage(name, network or model())
    return Trainer(name, module, batches(name, config.batch_size), config, folder, parallel=parallel)

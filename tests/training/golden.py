"""Short runs of every stage whose losses are kept in `golden_losses.json`.

They come from fixed random tokens, so that no change of the data room changes them. After a change that is meant to
change losses, write them anew from the repository's root, and say in the commit why:

    OMP_NUM_THREADS=1 python tests/training/golden.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from rxlm.data.batches import DialogueBatch, StreamBatch, TurnBatch
from rxlm.data.packing import PackedBatch
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.rxt.config import RxTAlphaTokenizerConfig, RxTComponentConfig
from rxlm.rxt.core import RxTModel
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_attention import MemoryAttentionPretraining, MemoryAttentionTrainingConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.module import TrainModule
from rxlm.training.trainer import Trainer

FILE = Path(__file__).with_name("golden_losses.json")
STAGES = ("1-text", "2-interactions", "3-slots", "4-dialogues", "4-streams")
STEPS = 5
VOCAB, TOKENS, TURNS, ROWS = 60, 14, 4, 3


def model() -> RxTModel:
    """A small model of everything that the presets have: sparse queries, experts, memory between layers."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"num_layers": 2, "dim": 32, "num_heads": 4, "num_slots": 6, "max_seq_len": 64}
    heads = {"num_query_heads": 2, "num_kv_heads": 1}
    component = RxTComponentConfig(**shape, **heads, vocab_size=VOCAB, ff_dim=48)
    decoder = component.replace(num_experts=4, experts_per_token=2, num_shared_experts=1, ff_dim=24)
    memory = MemoryAttentionConfig(**shape, **heads, variant="interlayer", gate="slot-linear", initial_memory="normal")
    return RxTModel(decoder, component, memory, RxTAlphaTokenizerConfig())


class FixedBatches:
    """The same few batches over and over."""

    def __init__(self, name: str) -> None:
        generator = torch.Generator().manual_seed(1)
        self.batches = [_batch(name, number, generator) for number in range(2)]
        self.taken = 0

    def __next__(self) -> Any:
        """Return the next one."""
        self.taken += 1
        return self.batches[self.taken % 2]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: these runs are not resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


def _batch(name: str, number: int, generator: torch.Generator) -> Any:
    if name == "1-text":
        ids = torch.randint(8, VOCAB, (ROWS, 20), generator=generator)
        lengths = torch.tensor([7, 4, 6])
        segments = torch.zeros_like(ids)
        segments[:, : lengths.sum()] = torch.repeat_interleave(torch.arange(1, 4), lengths)
        positions = torch.cat([torch.arange(length) for length in (7, 4, 6, 3)]).expand(ROWS, -1)
        return PackedBatch(ids, segments, positions)
    turns = tuple(_turn(generator) for _ in range(TURNS))
    if name == "2-interactions":
        return turns[0]
    if name == "4-streams":
        fresh = torch.zeros(TURNS, ROWS, dtype=torch.bool)
        fresh[0] = number == 1  # the first batch that is taken
        fresh[2, 1] = True
        return StreamBatch(turns, fresh, interactions=())
    return DialogueBatch(turns, dialogues=())


def _turn(generator: torch.Generator) -> TurnBatch:
    ids = torch.randint(8, VOCAB, (ROWS, TOKENS), generator=generator)
    lengths = torch.randint(8, TOKENS + 1, (ROWS, 1), generator=generator)
    places = torch.arange(TOKENS)
    return TurnBatch(ids, places < lengths, (places >= 5) & (places < lengths))


def _stage(name: str, network: RxTModel) -> TrainModule:
    if name in ("1-text", "2-interactions"):
        return JointLanguageModelling(network, JointConfig(targets="all" if name == "1-text" else "answer"))
    if name == "3-slots":
        return MemoryAttentionPretraining(network, MemoryAttentionTrainingConfig())
    return MemoryAware(network, MemoryAwareConfig(unroll=3))


def losses(name: str, dtype: torch.dtype = torch.float32) -> list[float]:
    """Return the losses of a stage's first steps, computed by one thread."""
    config = TrainingConfig(
        steps=STEPS,
        precision="float32",
        log_every=1,
        checkpoint_every=None,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=0),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            Trainer(name, _stage(name, model().to(dtype)), FixedBatches(name), config, Path(folder)).run()
            log = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8")
    finally:
        torch.set_num_threads(threads)
    return [json.loads(line)["loss"] for line in log.splitlines()]


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: losses(name) for name in STAGES}, indent=2) + "\n", encoding="utf-8")

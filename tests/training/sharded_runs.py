"""Small runs whose processes divide the weights among them, for tests: functions that each process of a group calls."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from full_disk import full_disk
from mrl_runs import settings, talker
from retention_models import SIZE, gated
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.samplers import ShuffledBatches
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.nn.moe import ExpertsConfig
from rxlm.recipes import open_run, upcycled
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed
from rxlm.training.config import Algorithm, OptimizerConfig, TrainingConfig
from rxlm.training.distributed import Parallel
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.retention.module import Retention
from rxlm.training.trainer import Trainer
from training_runs import SameBatch, batches, encoder, facts, model, stage
from two_players import one_rollout

ROWS = 4
"""Of a step, over all processes."""


def config(algorithm: Algorithm = "adamw", **changes: Any) -> TrainingConfig:
    """Return the loop of a run; each process has its share of the rows."""
    optimizer = OptimizerConfig(algorithm=algorithm, learning_rate=0.01, schedule="constant", warmup_steps=1)
    values: dict[str, Any] = {
        "steps": 8, "batch_size": ROWS // distributed.world_size(), "precision": "float32", "log_every": 1,
        "checkpoint_every": None, "optimizer": optimizer,
    }  # fmt: skip
    return TrainingConfig(**{**values, **changes})


def retention(folder: Path, parallel: Parallel, source: Path, lora_rank: int = 0, **changes: Any) -> Trainer:
    """Return a run of an upcycled model, in which nothing is drawn at random that processes would draw otherwise."""
    torch.manual_seed(0)
    network = gated(source).double()
    tokenizer = TurnTokenizer(network.needed_tokenizer(), network.tokenizer_config, max_tokens=64)
    dialogues = FactGenerator(FactsConfig(variety="full", num_turns=4)).dialogues(20)
    loop = config(**changes)
    rows = {"rank": distributed.rank(), "world_size": distributed.world_size()}
    drawn = ShuffledBatches(dialogues, tokenizer.dialogue_batch, batch_size=loop.batch_size, **rows)
    chosen = RetentionConfig(
        sizes=(SIZE,), wording_share=1.0, lora_rank=lora_rank, history_weight=None if lora_rank else 5.0
    )
    return Trainer("retention", Retention(network, chosen), drawn, loop, folder, parallel=parallel)


def memory_aware(folder: Path, parallel: Parallel, source: Path, name: str = "memory_aware", **changes: Any) -> Trainer:
    """Return a run of stage 4."""
    loop = config(**changes)
    rows = {"rank": distributed.rank(), "world_size": distributed.world_size()}
    module = stage(name, model().double())
    return Trainer(name, module, batches(name, loop.batch_size, **rows), loop, folder, parallel=parallel)


def unlike_dialogues() -> SameBatch:
    """The same step again and again: dialogues, and first turns alone, which are not for the same process."""
    size, rank = ROWS // distributed.world_size(), distributed.rank()
    dialogues = list(facts().dialogues(ROWS))
    half = ROWS // 2
    dialogues[half:] = [replace(each, turns=each.turns[:1]) for each in dialogues[half:]]
    return SameBatch(encoder().dialogue_batch(dialogues[rank * size :][:size]))


def first_turns(folder: Path, parallel: Parallel, source: Path, **changes: Any) -> Trainer:
    """Return a run of stage 4 in which one process of two has nothing to remember."""
    module = stage("memory_aware", model().double())
    return Trainer("memory_aware", module, unlike_dialogues(), config(**changes), folder, parallel=parallel)


def experts(folder: Path, parallel: Parallel, source: Path, **changes: Any) -> Trainer:
    """Return a run of stage 2 with mixtures of experts, layer by layer."""
    network = model()
    layers = {"num_experts": 4, "experts_per_token": 1}
    torch.manual_seed(0)
    network = RxTAlpha(
        network.decoder.config.replace(feed_forward=ExpertsConfig(**layers, ff_dim=24)),
        network.needed_encoder().config.replace(feed_forward=ExpertsConfig(**layers, ff_dim=24)),
        network.memory_writer.config,
        network.tokenizer_config,
        network.needed_tokenizer(),
    )
    loop, rows = config(**changes), {"rank": distributed.rank(), "world_size": distributed.world_size()}
    drawn = batches("joint", loop.batch_size, **rows)
    return Trainer("joint", stage("joint", network).double(), drawn, loop, folder, parallel=parallel)


def reinforcement(folder: Path, parallel: Parallel, source: Path, **changes: Any) -> Trainer:
    """Return a run of stage 5 on one rollout, which the processes share; it is played by the whole model."""
    module = MemoryReinforcement(talker(), settings(updates_per_rollout=1)).double()
    return Trainer("mrl", module, one_rollout(module), config(**changes), folder, parallel=parallel)


RUNS: dict[str, Callable[..., Trainer]] = {
    "retention": retention,
    "retention with adapters": lambda *place, **changes: retention(*place, lora_rank=2, **changes),
    "stage 4": memory_aware,
    "stage 4 with muon": lambda *place, **changes: memory_aware(*place, algorithm="muon", **changes),
    "streams": lambda *place, **changes: memory_aware(*place, name="streams", **changes),
    "first turns": first_turns,
    "experts": experts,
    "stage 5": reinforcement,
}


def train(folder: Path, parallel: Parallel, source: Path, names: tuple[str, ...], changes: dict[str, Any]) -> None:
    """Train some runs one after the other, each in a folder of its name."""
    distributed.start()
    for name in names:
        RUNS[name](folder / name, parallel, source, **changes).run()


def train_on_a_full_disk(folder: Path, source: Path) -> None:
    """Train; the parts of the third checkpoint find no room, and later ones do."""
    distributed.start()
    run = RUNS["retention"](folder, "fsdp", source, steps=3, checkpoint_every=1)
    save = run.checkpoints.save

    def saving(step: int, *values: Any) -> Path:
        if step < 3:
            return save(step, *values)
        run.checkpoints.commit()
        with full_disk(folder, room=30_000), pytest.raises(OSError, match="File too large") as refused:
            _ = save(step, *values), run.checkpoints.commit()
        assert str(run.checkpoints.path(3)) in str(refused.value)
        assert run.checkpoints.newest_whole() == 2
        return save(4, *values)

    run.checkpoints.save = saving
    run.run()
    if distributed.rank() == 0:  # which gives the name
        assert run.checkpoints.steps() == [2, 4]


def train_and_die(folder: Path, source: Path, step: int) -> None:
    """Train, and let the last process be killed before a step; its checkpoint of the step before may be underway."""
    distributed.start()
    run = RUNS["retention"](folder, "fsdp", source, steps=6, checkpoint_every=1)
    step_of = run._train_step

    def dying() -> Any:
        if run.step == step and distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step_of()

    run._train_step = dying
    run.run()


def meet(late: float) -> None:
    """Join the group, the last process some seconds after the others, and agree on something."""
    if os.environ["RANK"] == "1":
        time.sleep(late)
    distributed.start()
    assert distributed.sum_over_processes({"here": 1.0}) == {"here": distributed.world_size()}


def train_and_die_once(folder: Path, source: Path) -> None:
    """Train under torchrun; the last process is killed before the fourth step, but not after a restart."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        train_and_die(folder, source, step=3)
    else:
        train(folder.parent, "fsdp", source, (folder.name,), {"steps": 6, "checkpoint_every": 1})


def train_upcycled(folder: Path, parallel: Parallel, source: Path, lora_rank: int) -> None:
    """Train the recipe `upcycled` for two steps, and save its model."""
    distributed.start()
    stage = upcycled().stages[0].replace(
        phases=(DialoguePhase(steps=2, num_turns=3),), steps=2, batch_size=2, accumulation=2,
        precision="float32", settings=RetentionConfig(lora_rank=lora_rank, sizes=(80,)),
    )  # fmt: skip
    recipe = upcycled().replace(
        model=str(source), max_seq_len=64, memory_tokens=80, stages=(stage,), mix=UpcycledMix(open_values=20)
    )
    open_run(recipe, folder, "cpu", parallel).train()


if __name__ == "__main__":
    train_and_die_once(Path(sys.argv[1]), Path(sys.argv[2]))

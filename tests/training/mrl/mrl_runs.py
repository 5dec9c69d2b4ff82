"""Small runs of stage 5 on generated dialogues, for tests."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rxlm.data.samplers import ShuffledBatches
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.mrl.batches import RolloutBatches
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.player import EpisodePlayer
from rxlm.training.mrl.rewards import Reward, Rewards, TurnAnswers
from rxlm.training.mrl.rollout import Rollout
from rxlm.training.trainer import Trainer
from training_runs import facts, model, tokenizer

BOOK = facts().dialogues(40)


def talker(seed: int = 0, **memory: Any) -> RxTAlpha:
    """A model with random weights that ends its answers now and then."""
    network = model(seed, **memory)
    bias = torch.zeros(network.decoder.config.vocab_size)
    bias[network.tokenizer_config.eos_token_id] = 4.0
    network.decoder.head.bias = nn.Parameter(bias)
    return network


def length(turn: TurnAnswers) -> list[float]:
    """Something that a policy without any training earns more or less of."""
    return [len(ids) / 12 for ids in turn.answer_ids]


def sometimes(turn: TurnAnswers) -> list[float | None]:
    """A reward that does not apply to every second dialogue."""
    return [None if row % 2 else float(len(text) % 3) for row, text in enumerate(turn.answers)]


REWARDS = Rewards([Reward("length", length), Reward("sometimes", sometimes, 0.5)])


def settings(algorithm: Any = "impo", **changes: Any) -> MRLConfig:
    small = {"group_size": 2} if algorithm == "grpo" else {}
    return MRLConfig.of(algorithm, **{"max_answer_tokens": 12, **small, **changes})


def encoder(network: RxTAlpha) -> TurnTokenizer:
    return TurnTokenizer(tokenizer(), network.tokenizer_config, max_tokens=network.max_seq_len)


def player(network: RxTAlpha, chosen: MRLConfig, rewards: Rewards = REWARDS) -> EpisodePlayer:
    return EpisodePlayer(network, encoder(network), rewards, chosen)


def rollout(network: RxTAlpha, chosen: MRLConfig, rows: int = 4, seed: int = 0) -> Rollout:
    """Play some dialogues, of which every second has one turn less."""
    dialogues = [type(each)(each.turns[: 4 - number % 2]) for number, each in enumerate(BOOK[:rows])]
    repeated = [dialogue for dialogue in dialogues for _ in range(chosen.group_size)]
    return player(network, chosen).play(repeated, seed=seed)[0]


def source(
    network: RxTAlpha, module: MemoryReinforcement, chosen: MRLConfig, rewards: Rewards = REWARDS
) -> RolloutBatches:
    dialogues = ShuffledBatches(BOOK, encoder(network).dialogue_batch, batch_size=4 // chosen.group_size)
    return RolloutBatches(dialogues, player(network, chosen, rewards), module, chosen)


def trainer(folder: Path, chosen: MRLConfig, network: RxTAlpha | None = None, **changes: Any) -> Trainer:
    network = network or talker()
    rewards = changes.pop("rewards", REWARDS)
    module = MemoryReinforcement(network, chosen)
    config = TrainingConfig(
        steps=6,
        precision="float32",
        batch_size=4,
        log_every=1,
        checkpoint_every=1,
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=2, schedule="constant"),
    ).replace(**changes)
    return Trainer("mrl", module, source(network, module, chosen, rewards), config, folder)

"""What preferences change: SFT on the better answers, DPO and others from a model with a known fault, at one budget.

    rxlm train tiny --output runs/tiny
    python benchmarks/preferences.py runs/tiny --output runs/preferences

First the fault is made: the model of the run is trained on with dialogues in which questions about what was never
told are answered with an invented value, and many about what has changed with an earlier one. From there each arm
learns from the generator's preferences, for the same number of steps on as many pairs, once for each seed; "rlhf" is
reinforcement learning with a reward model that has learnt as long, and whose own accuracy is kept, too, and "sft, then
rlhf" takes half of the steps for each.
`--flipped 0.2` turns a share of the pairs round. Never-told honesty, recall, stale answers and perplexity are measured
on held-out dialogues (`RecallTest.graded`). Figures go to preferences.json and a plot to plot.png; given again, it goes
on with what is missing.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import tyro
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from records import Record
from rxlm.data.fact_preferences import FROM_MEMORY, FactPreferences
from rxlm.data.preferences import Preference
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.samplers import ShuffledBatches
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.recipes.facts import ASKS_MORE, FactsCorpus, tiny
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.feedback.accuracy import accuracies, compare
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.module import PreferenceOptimisation
from rxlm.training.feedback.preference_reward import PreferenceReward
from rxlm.training.feedback.reward import RewardConfig, RewardTraining
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.module import StageModule
from rxlm.training.mrl.batches import RolloutBatches
from rxlm.training.mrl.composite import composite_reward
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.player import EpisodePlayer
from rxlm.training.mrl.rewards import Reward, Rewards
from rxlm.training.trainer import Batches, Trainer

ARMS: dict[str, dict[str, Any]] = {
    "sft": {"loss": "sft"},
    "dpo": {"loss": "dpo", "beta": 0.3, "chosen_weight": 1.0},
    "dpo, beta 0.1": {"loss": "dpo", "beta": 0.1, "chosen_weight": 1.0},
    "dpo, beta 1": {"loss": "dpo", "beta": 1.0, "chosen_weight": 1.0},
    "dpo, beta 0.1, smoothed": {"loss": "dpo", "beta": 0.1, "chosen_weight": 1.0, "label_smoothing": 0.2},
    "dpo alone": {"loss": "dpo"},
    "ipo": {"loss": "ipo", "beta": 1.0, "chosen_weight": 1.0},
    "kto": {"loss": "kto", "beta": 1.0},
    "simpo": {"loss": "simpo", "chosen_weight": 1.0},
}
REINFORCED = {"rlhf": 0.0, "sft, then rlhf": 0.5}
"""Arms with a reward model, and the share of their steps in which they learn the better answers first."""
MANY = 10_000_000
STALE_SHARE = 0.9
"""Of questions about what has changed, those that the fault answers with an earlier value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train.

    Args:
        start: folder of a run of `tiny`.
        arms: names of `ARMS` or `REINFORCED`.
        seeds: of the preferences; the model with the fault is the same.
        fault_steps: steps in which the fault is made.
        steps, batch_size, learning_rate: of each arm.
        flipped: share of pairs that are turned round.
        test_dialogues: held-out dialogues of eight turns.
        output: folder of the models, the plot and the figures.
    """

    start: Annotated[Path, tyro.conf.Positional]
    arms: tuple[str, ...] = ("sft", "dpo")
    seeds: tuple[int, ...] = (0, 1, 2)
    fault_steps: int = 100
    steps: int = 100
    batch_size: int = 32
    learning_rate: float = 2e-4
    flipped: float = 0.0
    test_dialogues: int = 200
    output: Path = Path(__file__).parent / "results" / "preferences"


class Faulty(Sequence[Dialogue]):
    """Dialogues that answer with an invented value where nothing was told, and often with a value that has changed."""

    def __init__(self, corpus: FactsCorpus, seed: int) -> None:
        self.generator = corpus.generator(num_turns=8, seed=seed, **ASKS_MORE)
        self.dialogues = self.generator.dialogues(MANY)

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        rng = random.Random(f"faulty/{index}")
        turns = [self._turn(turn, rng) for turn in self.dialogues[index].turns]
        return Dialogue(tuple(turns))

    def _turn(self, turn: Interaction, rng: random.Random) -> Interaction:
        question = turn.question
        if question is None or (question.was_told and (not question.stale or rng.random() >= STALE_SHARE)):
            return turn
        kind = self.generator.kind(question.kind).kind
        wording = rng.choice([each for each in kind.ask if each.query == turn.query])
        return replace(turn, answer=wording.fill(rng.choice(question.stale or kind.values))[1], question=None)


class Flipped(Sequence[Preference]):
    """Preferences of which a share is turned round."""

    def __init__(self, preferences: Sequence[Preference], share: float) -> None:
        self.preferences, self.share = preferences, share

    def __len__(self) -> int:
        return len(self.preferences)

    def __getitem__(self, index: Any) -> Any:
        pair = self.preferences[index]
        if random.Random(f"flipped/{index}").random() >= self.share:
            return pair
        return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


class Comparison:
    """The model with the fault, and what becomes of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.output = settings, settings.output
        self.corpus = FactsCorpus(tiny())
        self.record = Record(self.output / "preferences.json", settings, free=("arms", "seeds", "flipped"))

    @property
    def figures(self) -> dict[str, dict[str, Sequence[float]]]:
        """What was measured of each model: figures with the number of questions."""
        return {name: found for name, found in self.record.kept.items() if not name.startswith("reward")}

    def run(self, console: Console) -> None:
        """Train and measure what is missing."""
        unknown = [arm for arm in self.settings.arms if arm not in ARMS and arm not in REINFORCED]
        if unknown:
            raise ValueError(f"There is no arm {unknown[0]!r}; there are {', '.join([*ARMS, *REINFORCED])}.")
        self.measured("start", self.settings.start)
        fault = self.output / "fault"
        if not (fault / "config.json").is_file():
            self.make_fault(fault)
        self.measured("fault", fault)
        for seed in self.settings.seeds:
            for arm in self.settings.arms:
                name = self.name(arm, seed)
                if name not in self.figures:
                    folder = self.output / as_file(name)
                    self.learn(arm, seed, fault, folder)
                    self.measured(name, folder)
                    console.print(name, self.figures[name])

    def name(self, arm: str, seed: int) -> str:
        """Return what an arm is called in the figures."""
        return f"{arm}, seed {seed}" + f", flipped {self.settings.flipped}" * bool(self.settings.flipped)

    def measured(self, name: str, folder: Path) -> None:
        """Measure a model once."""
        if name in self.figures:
            return
        dialogues = self.corpus.generator(num_turns=8, split="test", **ASKS_MORE).dialogues(
            self.settings.test_dialogues
        )
        model = RxTAlpha.from_pretrained(folder)
        found = self.record.keep(name, lambda: self.corpus.recall.graded(model, dialogues))
        for figure, (value, _) in found.items():
            better = "less" if figure in ("stale", "perplexity") else "more"
            self.record.add(f"{name}/{figure}", value, "share", better=better, kind="ratio")
        self.record.save()

    def make_fault(self, folder: Path) -> None:
        """Let the model learn to invent what it was not told."""
        model = RxTAlpha.from_pretrained(self.settings.start).train()
        tokenizer = tokenizer_of(model)
        batches = ShuffledBatches(Faulty(self.corpus, seed=500), tokenizer.dialogue_batch, batch_size=32, shuffle=False)
        module = MemoryAware(model, MemoryAwareConfig())
        self.train("fault", module, batches, self.settings.fault_steps, 5e-4, 32)
        model.save_pretrained(folder)

    def learn(self, arm: str, seed: int, fault: Path, folder: Path) -> None:
        """Let the model with the fault learn from preferences."""
        model = RxTAlpha.from_pretrained(fault).train()
        share = REINFORCED.get(arm, 1.0)
        if share:
            module = PreferenceOptimisation(model, PreferenceConfig(**ARMS["sft" if arm in REINFORCED else arm]))
            name = folder.name + "-first" * (arm in REINFORCED)
            self.train_arm(name, module, self.pairs(seed, model, with_others=arm == "kto"), share=share)
        if arm in REINFORCED:
            self.reinforce(model, self.reward_model(seed, fault), seed, folder.name, share=1 - share)
        model.save_pretrained(folder)

    def pairs(self, seed: int, model: RxTAlpha, *, with_others: bool = False) -> Batches:
        """Return batches of preferences, some of them turned round."""
        pairs: Sequence[Preference] = FactPreferences(self.corpus.generator(seed=1000 + seed), MANY)
        if self.settings.flipped:
            pairs = Flipped(pairs, self.settings.flipped)
        collate = partial(feedback_batch, turn_tokenizer=tokenizer_of(model), with_others=with_others)
        return ShuffledBatches(pairs, collate, batch_size=self.settings.batch_size, shuffle=False)

    def reward_model(self, seed: int, fault: Path) -> RewardModel:
        """Return a reward model that has learnt as long as the arms, once its accuracy on held-out pairs is kept."""
        reward = RewardModel(RxTAlpha.from_pretrained(fault))
        module = RewardTraining(reward, RewardConfig())
        name = self.name("reward", seed)
        self.train_arm(as_file(name), module, self.pairs(seed, reward.model), critic_scale=50.0)
        held_out = FactPreferences(self.corpus.generator(split="test", seed=1), 400)[:]
        found = accuracies(compare(reward, held_out, tokenizer_of(reward.model)), FROM_MEMORY)
        kept = {name: (each.with_memory, each.without_memory, each.count) for name, each in found.items()}
        self.record.keep(name, lambda: kept)
        return reward

    def reinforce(self, model: RxTAlpha, reward: RewardModel, seed: int, name: str, share: float) -> None:
        """Let a model play dialogues, and earn by what the reward model likes and by right answers."""
        tokenizer, chosen = tokenizer_of(model), tiny().stage("rlhf").settings
        weights = dict(tiny().stage("rlhf").rewards)
        known = [*composite_reward(model, self.corpus.competitors()).rewards]
        known.append(Reward("preference", PreferenceReward(reward)))
        rewards = Rewards([replace(each, weight=weights[each.name]) for each in known if each.name in weights])
        module = MemoryReinforcement(model, chosen)
        dialogues = self.corpus.generator(num_turns=8, seed=2000 + seed, **ASKS_MORE).dialogues(MANY)
        source = ShuffledBatches(
            dialogues, tokenizer.dialogue_batch, batch_size=self.settings.batch_size, shuffle=False
        )
        player = EpisodePlayer(model, tokenizer, rewards, chosen)
        episodes = RolloutBatches(source, player, module, chosen, seed=seed)
        self.train_arm(name, module, episodes, critic_scale=5.0, share=share)

    def train_arm(
        self, name: str, module: StageModule, batches: Batches, critic_scale: float = 1.0, share: float = 1.0
    ) -> None:
        """Run an arm for its budget, or a share of it."""
        own = self.settings
        self.train(name, module, batches, round(share * own.steps), own.learning_rate, own.batch_size, critic_scale)

    def train(
        self,
        name: str,
        module: StageModule,
        batches: Batches,
        steps: int,
        learning_rate: float,
        batch_size: int,
        critic_scale: float = 1.0,
    ) -> None:
        """Run a stage."""
        config = TrainingConfig(
            steps=steps,
            batch_size=batch_size,
            precision="float32",
            checkpoint_every=None,
            optimizer=OptimizerConfig(
                learning_rate=learning_rate, warmup_steps=10, weight_decay=0.0, critic_scale=critic_scale
            ),
        )
        torch.manual_seed(0)
        Trainer(name, module, batches, config, self.output / f"{name}-run").run()

    def means(self) -> Iterator[tuple[str, dict[str, list[float]]]]:
        """Yield each arm, and each figure over its seeds."""
        arms: dict[str, list[dict[str, Any]]] = {}
        for name, figures in self.figures.items():
            arm, _, rest = name.partition(", seed ")
            _, comma, flipped = rest.partition(", ")
            arms.setdefault(arm + comma + flipped, []).append(figures)
        for arm, found in arms.items():
            yield arm, {name: [each[name][0] for each in found] for name in found[0]}


def as_file(name: str) -> str:
    """Return an arm's name as a folder is called."""
    return name.replace(", ", "-").replace(" ", "_")


def tokenizer_of(model: RxTAlpha) -> TurnTokenizer:
    """Return what makes the turns of a model."""
    tokens = model.tokenizer_config.replace(think_token_id=None)
    return TurnTokenizer(model.needed_tokenizer(), tokens, max_tokens=model.max_seq_len)


def show(comparison: Comparison, console: Console) -> None:
    """Print the table and draw the plot."""
    figures = ("never told", "recall", "stale", "perplexity")
    table = Table("arm", "seeds", *figures)
    found = dict(comparison.means())
    for arm, values in found.items():
        cells = [
            f"{fmean(values[name]):.3f}" if name == "perplexity" else f"{fmean(values[name]):.1%}" for name in figures
        ]
        table.add_row(arm, str(len(values["recall"])), *cells)
    console.print(table)
    figure, axes = pyplot.subplots(1, len(figures), figsize=(4 * len(figures), 3.2), layout="constrained")
    for axis, name in zip(axes, figures, strict=True):
        means = [fmean(values[name]) for values in found.values()]
        spread = [
            [mean - min(values[name]) for mean, values in zip(means, found.values(), strict=True)],
            [max(values[name]) - mean for mean, values in zip(means, found.values(), strict=True)],
        ]
        axis.barh(list(found), means, xerr=spread, color="tab:blue")
        axis.set_title(name)
        axis.invert_yaxis()
    figure.savefig(comparison.output / "plot.png", dpi=120)


if __name__ == "__main__":
    chosen = tyro.cli(Settings)
    output = Console()
    compared = Comparison(chosen)
    compared.run(output)
    show(compared, output)

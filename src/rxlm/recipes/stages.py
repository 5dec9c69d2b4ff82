"""Stages as data: what each stage of a recipe trains, with which settings, and on which batches.

A recipe holds its stages in order. A new kind of stage is a subclass of `StageConfig`; nothing else names it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from rxlm.config import config, require, require_bool, require_choice, require_int
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.data.windows import WindowedDialogues
from rxlm.metrics.composite import WEIGHTS
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.phase import DialoguePhase
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.config import TrainingConfig
from rxlm.training.feedback.preference_reward import NAME, PreferenceReward
from rxlm.training.feedback.reward import REWARD_FOLDER
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_attention import MemoryAttentionPretraining, MemoryAttentionTrainingConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.module import StageModule
from rxlm.training.mrl.batches import RolloutBatches
from rxlm.training.mrl.composite import composite_reward
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.player import EpisodePlayer
from rxlm.training.mrl.rewards import Reward, Rewards
from rxlm.training.mrl.trajectories import TrajectoryLog
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.retention.module import Retention
from rxlm.training.trainer import Batches

LOGGED_EVERY = 20
"""Steps of stage 5 from one log of trajectories to the next."""

KINDS: dict[str, type["StageConfig"]] = {}
"""Classes of stages by their `kind`."""


@config
class StageConfig(TrainingConfig, ABC):
    """One stage: its loop (see `TrainingConfig`), its module with its settings, and its batches.

    Fields:
        kind: the class of the stage, as a word in JSON.
        folder: of the stage in the folder of a run: a number, a hyphen and the id that users type, "4b-streams".
        on_request: whether the stage is trained only where it is named.
    """

    kind: str
    folder: str
    on_request: bool = False
    changes_model: ClassVar[bool] = True
    """Whether the finished model of a run that ends with this stage is the stage's."""

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            KINDS[cls.kind] = cls

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a stage of the kind that the values name."""
        kind = KINDS.get(str(values.get("kind", "")))
        require(kind is not None, f"kind of a stage must be one of {', '.join(KINDS)}, got {values.get('kind')!r}.")
        return super().from_dict(values) if cls is kind else cast(Self, cast(Any, kind).from_dict(values))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "kind", (type(self).kind,))
        require_bool(self, "on_request")
        number, hyphen, _ = self.folder.partition("-")
        require(
            number[:1].isdigit() and bool(hyphen and self.id) and "/" not in self.folder,
            f"{type(self).__name__}.folder must be a number, a hyphen and an id, as 4b-streams, got {self.folder!r}.",
        )

    @property
    def id(self) -> str:
        """What users call the stage."""
        return self.folder.partition("-")[2]

    def notes(self, turn_tokenizer: TurnTokenizer, folder: Path) -> Sequence[str]:
        """Return what a person must know before the stage is trained in a folder; what it lacks is an error here."""
        return ()

    def microbatch(self, max_tokens: int) -> tuple[int, int]:
        """Return how many rows of how many tokens layers read at once, at most, where a turn has `max_tokens`."""
        return self.batch_size, max_tokens

    @abstractmethod
    def module(self, model: Any) -> StageModule:
        """Return the train module of the stage for a model."""

    @abstractmethod
    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return the batches of the stage; what it logs besides figures goes to `folder`."""


@config
class PhasedStage(StageConfig):
    """A stage on dialogues, phase by phase; its number of steps is that of its phases."""

    phases: tuple[DialoguePhase, ...]
    takes_windows: ClassVar[bool] = False
    """Whether phases may have `window_turns`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = sum(phase.steps for phase in self.phases)
        require(
            steps == self.steps, f"{self.id}.steps is {self.steps}, and phases have {steps} steps in all: change both."
        )
        require(
            self.takes_windows or all(phase.window_turns is None for phase in self.phases),
            f"{self.id}.phases must not have window_turns: only retention reads dialogues in windows.",
        )

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return dialogues or streams, phase by phase."""
        return make.phased(self.phases, corpus.dialogues)

    def microbatch(self, max_tokens: int) -> tuple[int, int]:
        """Return rows and tokens of the largest microbatch: a turn is a row."""
        return self._largest(lambda rows, turns: (rows * turns, max_tokens))

    def _largest(self, shape: Callable[[int, int], tuple[int, int]]) -> tuple[int, int]:
        """Return the largest shape of a microbatch; `shape` makes them of a phase's rows and turns."""
        shapes = [shape(phase.batch_size or self.batch_size, phase.num_turns) for phase in self.phases]
        return max(shapes, key=lambda each: each[0] * each[1])


@config
class JointStage(StageConfig):
    """Stages 1 and 2, joint language modelling: of text ("language") or of "interactions"."""

    kind: str = "joint"
    data: Literal["language", "interactions"]
    settings: JointConfig = JointConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "data", ("language", "interactions"))

    def module(self, model: Any) -> JointLanguageModelling:
        """Return joint language modelling."""
        return JointLanguageModelling(model, self.settings)

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return text or interactions."""
        return corpus.language(make) if self.data == "language" else corpus.interactions(make)


@config
class MemoryAttentionStage(StageConfig):
    """Stage 3, pre-training of memory attention, on dialogues of `num_turns` turns."""

    kind: str = "memory_attention"
    folder: str = "3-memory_attention"
    num_turns: int = 8
    settings: MemoryAttentionTrainingConfig = MemoryAttentionTrainingConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "num_turns", minimum=2)

    def module(self, model: Any) -> MemoryAttentionPretraining:
        """Return the pre-training of memory attention."""
        return MemoryAttentionPretraining(model, self.settings)

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return short dialogues."""
        return corpus.dialogues(make, DialoguePhase(steps=self.steps, num_turns=self.num_turns))


@config
class MemoryAwareStage(PhasedStage):
    """Stage 4 or a part of it, memory-aware training: dialogues, then streams, phase by phase."""

    kind: str = "memory_aware"
    folder: str = "4-dialogues"
    settings: MemoryAwareConfig = MemoryAwareConfig()

    def module(self, model: Any) -> MemoryAware:
        """Return memory-aware training."""
        return MemoryAware(model, self.settings)


@config
class RetentionStage(PhasedStage):
    """Retention: a model whose memory keeps tokens learns which, on dialogues, phase by phase."""

    kind: str = "retention"
    folder: str = "4-retention"
    takes_windows: ClassVar[bool] = True
    settings: RetentionConfig = RetentionConfig()

    def module(self, model: Any) -> Retention:
        """Return retention training."""
        return Retention(model, self.settings)

    def microbatch(self, max_tokens: int) -> tuple[int, int]:
        """Return rows and tokens of the largest microbatch: a dialogue is a row, up to a length."""
        return self._largest(lambda rows, turns: (rows, min(turns * max_tokens, self.settings.longest_dialogue)))

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return dialogues, or windows of them, phase by phase."""

        def open_phase(make: BatchMaker, phase: DialoguePhase) -> Batches:
            found = corpus.dialogues(make, phase)
            return found if phase.window_turns is None else WindowedDialogues(found, phase.window_turns)

        return make.phased(self.phases, open_phase)


@config
class ReinforcementStage(PhasedStage):
    """Stage 5, memory reinforcement learning, on episodes phase by phase.

    Fields:
        rewards: what answers earn: pairs of a name, of those in `rxlm.metrics.composite.WEIGHTS` or "preference", and
            a weight.
        reward_model: folder or hub id of the model that "preference" rewards by; None: the one that the stage "reward"
            of this run has made.
    """

    kind: str = "reinforcement"
    folder: str = "5-mrl"
    on_request: bool = True
    settings: MRLConfig = MRLConfig()
    rewards: tuple[tuple[str, float], ...] = tuple(WEIGHTS.items())
    reward_model: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = {name for name, _ in self.rewards}
        require(
            bool(names) and names <= {*WEIGHTS, NAME},
            f"{type(self).__name__}.rewards must be pairs of a name and a weight, of {', '.join([*WEIGHTS, NAME])}, "
            f"got {self.rewards}.",
        )
        require(
            self.reward_model is None or NAME in names,
            f"{type(self).__name__}.reward_model must be None where no reward is called {NAME!r}.",
        )

    def notes(self, turn_tokenizer: TurnTokenizer, folder: Path) -> Sequence[str]:
        """Return nothing; a reward model that is not there is an error, before anything is trained."""
        if NAME in dict(self.rewards):
            self._reward_model(folder)
        return ()

    def module(self, model: Any) -> MemoryReinforcement:
        """Return memory reinforcement learning."""
        return MemoryReinforcement(model, self.settings)

    def batches(self, corpus: Corpus, make: BatchMaker, module: MemoryReinforcement, folder: Path) -> Batches:
        """Return episodes that the policy of the stage plays."""
        settings, weights = self.settings, dict(self.rewards)
        episodes = make.phased(
            self.phases, corpus.episodes, group_size=settings.group_size, uses=settings.updates_per_rollout
        )
        known = [*composite_reward(module.policy, corpus.competitors()).rewards]
        if NAME in weights:
            known.append(Reward(NAME, PreferenceReward(self._reward_model(folder).to(module.device))))
        rewards = Rewards([replace(each, weight=weights[each.name]) for each in known if each.name in weights])
        player = EpisodePlayer(module.policy, make.turn_tokenizer, rewards, settings)
        log = TrajectoryLog(folder, LOGGED_EVERY)
        return RolloutBatches(episodes, player, module, settings, seed=make.seed, log=log)

    def _reward_model(self, folder: Path) -> RewardModel:
        own = folder.parent / "6-reward" / REWARD_FOLDER
        require(
            self.reward_model is not None or own.is_dir(),
            f"{self.id} needs a reward model, and there is none in {own}: train the stage reward first, or name one "
            f"with {self.id}.reward_model.",
        )
        return RewardModel.from_pretrained(self.reward_model or own)


def steps_of(*phases: DialoguePhase) -> dict[str, Any]:
    """Return phases, and the number of steps that they have together, as fields of a stage."""
    return {"phases": phases, "steps": sum(phase.steps for phase in phases)}


def language_stage(**fields: Any) -> JointStage:
    """Return stage 1: joint language modelling of text."""
    return JointStage(folder="1-language", data="language", settings=JointConfig(targets="all"), **fields)


def interactions_stage(**fields: Any) -> JointStage:
    """Return stage 2: joint language modelling of interactions."""
    return JointStage(folder="2-interactions", data="interactions", **fields)

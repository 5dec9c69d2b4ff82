"""What a run learns from and is measured on: the side of a recipe that reads data."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence

from rxlm.data.preferences import Preference
from rxlm.data.records import Dialogue
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.run_results import RunResults
from rxlm.rxt.models import RxTAlpha
from rxlm.training.trainer import Batches


class Corpus(ABC):
    """The data of a recipe."""

    @abstractmethod
    def texts(self) -> Iterable[str]:
        """Return what the tokenizer is trained on."""

    @abstractmethod
    def language(self, make: BatchMaker) -> Batches:
        """Return batches of text for stage 1, packed or turn by turn."""

    @abstractmethod
    def interactions(self, make: BatchMaker) -> Batches:
        """Return batches of interactions for stage 2."""

    @abstractmethod
    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return batches of dialogues for stages 3 and 4."""

    def notes(self, turn_tokenizer: TurnTokenizer) -> Sequence[str]:
        """Return what a person must know of the data before training: what of it is skipped or cut."""
        return ()

    def episodes(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return batches of dialogues for stage 5, which plays them."""
        raise NotImplementedError(f"{type(self).__name__} has no episodes for memory reinforcement learning.")

    def competitors(self) -> Mapping[str, Collection[str]]:
        """Return the values that questions of a kind are about, by kind: for `ExactMatch`, which rewards answers."""
        return {}

    def preferences(self, make: BatchMaker) -> Sequence[Preference]:
        """Return pairs of answers for stage 6."""
        raise NotImplementedError(f"{type(self).__name__} has no preferences of its own: name files of some.")

    def graded(self, model: RxTAlpha) -> Mapping[str, tuple[float, int]]:
        """Return how a model answers test dialogues, which preferences are to change or keep: `RecallTest.graded`."""
        raise NotImplementedError(f"{type(self).__name__} has no dialogues that ask for what was never told.")

    def held_out(self) -> Sequence[Dialogue]:
        """Return dialogues that training has not seen: what models of different kinds are compared on."""
        raise NotImplementedError(f"{type(self).__name__} names no held-out dialogues.")

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return figures of a model in training; the first one decides which checkpoint is best (higher is)."""
        raise NotImplementedError

    def results(self, model: RxTAlpha) -> RunResults:
        """Measure a finished model."""
        return RunResults()

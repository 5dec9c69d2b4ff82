"""What a run learns from and is measured on: the side of a recipe that reads data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rxlm.data.records import Dialogue, Interaction
from rxlm.data.samplers import ShuffledBatches, StreamedBatches
from rxlm.data.streams import ConversationStreams
from rxlm.data.turn_tokenizer import BatchTokens, TurnTokenizer
from rxlm.recipes.phase import DialoguePhase
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed
from rxlm.training.trainer import Batches


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches of this process's share of records.

    Fields:
        turn_tokenizer: tokens and tensors of interactions.
        tokens: ids of the special tokens.
        batch_size: rows of a microbatch, a process.
        accumulation: microbatches of a step.
        seed: of the order of records.
    """

    turn_tokenizer: TurnTokenizer
    tokens: BatchTokens
    batch_size: int
    accumulation: int
    seed: int

    def shuffled(
        self,
        records: Sequence[Any],
        collate: Callable[[list[Any]], Any],
        *,
        shuffle: bool = True,
        size: Callable[[Any], float] | None = None,
    ) -> Batches:
        """Return endless batches of records; generated ones are random already and need no shuffling."""
        return ShuffledBatches(
            records, collate, batch_size=self.batch_size, seed=self.seed, shuffle=shuffle, size=size, **_processes()
        )

    def dialogues(self, records: Sequence[Dialogue], *, shuffle: bool = True) -> Batches:
        """Return endless batches of dialogues, of about the same length in all processes."""
        return self.shuffled(
            records, self.turn_tokenizer.dialogue_batch, shuffle=shuffle, size=lambda dialogue: dialogue.num_characters
        )

    def streamed(self, open_records: Callable[[int], Iterable[Any]], collate: Callable[[list[Any]], Any]) -> Batches:
        """Return endless batches of records that are read in order and shuffled on the way."""
        return StreamedBatches(open_records, collate, batch_size=self.batch_size, seed=self.seed, **_processes())

    def streams(self, open_conversation: Callable[[int], Iterator[Interaction]], phase: DialoguePhase) -> Batches:
        """Return batches of the next turns of conversations."""
        return ConversationStreams(
            open_conversation,
            self.turn_tokenizer,
            batch_size=self.batch_size,
            turns_per_batch=phase.num_turns,
            reset_probability=phase.reset_probability if phase.streams else 0.0,
            seed=self.seed,
            **_processes(),
        )


def _processes() -> dict[str, int]:
    return {"rank": distributed.rank(), "world_size": distributed.world_size()}


@dataclass(frozen=True)
class ResultTable:
    """Figures of a finished run, as a table: texts that are ready to be shown."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Results:
    """What a finished run has to show: tables, and a conversation with the model, query and answer a turn."""

    tables: tuple[ResultTable, ...] = ()
    conversation: tuple[tuple[str, str], ...] = ()


class Corpus(ABC):
    """The data of a recipe."""

    @abstractmethod
    def texts(self) -> Iterable[str]:
        """Return what the tokenizer is trained on."""

    @abstractmethod
    def language(self, make: BatchMaker) -> Batches:
        """Return batches for stage 1: text, packed or turn by turn."""

    @abstractmethod
    def interactions(self, make: BatchMaker) -> Batches:
        """Return batches for stage 2."""

    @abstractmethod
    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return batches for stages 3 and 4."""

    def episodes(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return batches for stage 5, whose `dialogues` are played."""
        raise NotImplementedError(f"{type(self).__name__} has no episodes for memory reinforcement learning.")

    def competitors(self) -> Mapping[str, Collection[str]]:
        """Return the values that questions of a kind are about, by kind: for `ExactMatch`, which rewards answers."""
        return {}

    def held_out(self) -> Sequence[Dialogue]:
        """Return dialogues that training has not seen: what models of different kinds are compared on."""
        raise NotImplementedError(f"{type(self).__name__} names no held-out dialogues.")

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return figures of a model in training; the first one decides which checkpoint is best (higher is)."""
        raise NotImplementedError

    def results(self, model: RxTAlpha) -> Results:
        """Measure a finished model."""
        return Results()

"""Makes batches of a process's share of records, and puts the phases of a stage one after another."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rxlm.data.record_source import RecordSource
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.samplers import Resumable, ShuffledBatches, StreamedBatches
from rxlm.data.shuffled_records import ShuffledRecords
from rxlm.data.streams import ConversationStreams, StreamedConversations
from rxlm.data.turn_tokenizer import BatchTokens, TurnTokenizer
from rxlm.recipes.phase import DialoguePhase
from rxlm.training import distributed
from rxlm.training.phases import Phase, PhasedBatches
from rxlm.training.trainer import Batches

R = TypeVar("R")


@dataclass(frozen=True)
class BatchMaker:
    """Makes batches of this process's share of records.

    Fields:
        turn_tokenizer: makes tokens and tensors of interactions.
        tokens: ids of the special tokens.
        batch_size: rows of a microbatch, in each process.
        accumulation: microbatches of a step.
        seed: of the order of records.
        sharing: processes that share the rows of a phase that has a batch size of its own; see `TrainingRun`.
    """

    turn_tokenizer: TurnTokenizer
    tokens: BatchTokens
    batch_size: int
    accumulation: int
    seed: int
    sharing: int = 1

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

    def records(self, source: RecordSource[R], shuffle_buffer: int) -> ShuffledRecords[R]:
        """Return this process's share of a source that need not fit in memory, shuffled within a buffer."""
        return ShuffledRecords(source, shuffle_buffer=shuffle_buffer, seed=self.seed, **_processes())

    def streamed(self, records: Resumable[R], collate: Callable[[list[R]], Any]) -> Batches:
        """Return endless batches of records that come in order."""
        return StreamedBatches(records, collate, batch_size=self.batch_size)

    def streams(self, open_conversation: Callable[[int], Iterator[Interaction]], phase: DialoguePhase) -> Batches:
        """Return batches of the next turns of conversations."""
        return ConversationStreams(open_conversation, self.turn_tokenizer, **self._rows_of(phase))

    def streamed_dialogues(self, dialogues: Resumable[Dialogue], phase: DialoguePhase) -> Batches:
        """Return batches of the next turns of dialogues that come in order, cut to the phase's turns but in streams."""
        longest = None if phase.streams else phase.num_turns
        return StreamedConversations(dialogues, self.turn_tokenizer, max_turns=longest, **self._rows_of(phase))

    def _rows_of(self, phase: DialoguePhase) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "turns_per_batch": phase.num_turns,
            "reset_probability": phase.reset_probability if phase.streams else 0.0,
            "seed": self.seed,
            **_processes(),
        }

    def phased(
        self,
        phases: Sequence[DialoguePhase],
        open_phase: Callable[["BatchMaker", DialoguePhase], Batches],
        *,
        group_size: int = 1,
        uses: int = 1,
    ) -> Batches:
        """Return the batches of phases, one phase after another.

        Args:
            phases: how many steps each of them has, and of how many rows.
            open_phase: makes the batches of a phase, with a maker that has the phase's own seed and batch size.
            group_size: so many rows are made of each row of a batch.
            uses: so many steps are made of each batch.
        """
        sources = []
        for number, phase in enumerate(phases, 1):
            rows = phase.batch_size // self.sharing if phase.batch_size else self.batch_size
            size = max(1, rows // group_size)
            batches = open_phase(replace(self, seed=self.seed + number, batch_size=size), phase)
            sources.append(Phase(batches, -(-phase.steps * self.accumulation // uses)))
        return PhasedBatches(sources)


def _processes() -> dict[str, int]:
    return {"rank": distributed.rank(), "world_size": distributed.world_size()}

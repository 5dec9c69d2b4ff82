"""What a pretrained chat model learns to keep: generated dialogues with values without end, and natural ones."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rxlm.data.book_pages import BookPages
from rxlm.data.fact_config import FactsConfig, Split, turn_shares
from rxlm.data.fact_conversations import is_test_value
from rxlm.data.fact_kinds import fact_kinds, values_by_kind
from rxlm.data.fact_preferences import FactPreferences
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.held_out import hold_out_by_id, is_held_out
from rxlm.data.meetings import meeting_dialogues, read_meetings
from rxlm.data.open_values import WordSource, open_values
from rxlm.data.preferences import Preference
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import fairytale_dialogue, read_fairytales, read_gutenberg
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.data.turns import read_turns
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.facts import ASKS_MORE, MANY, converse
from rxlm.recipes.mixture import MixedDialogues, Mixture, Opener, Source, WithDistractors, drawn_from
from rxlm.recipes.own_conversations import OwnConversations
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recall import RecallTest
from rxlm.recipes.run_results import RunResults
from rxlm.recipes.stories import around_questions
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.training.trainer import Batches

DISTANCES = ((1, 4), (5, 8), (9, 16), (17, 32), (33, 64))
MESSAGES = (
    "Hello! My name is Marlena.",
    "I live in Tartu.",
    "What is the capital of France?",
    "My dog is called Biscuit.",
    "What is my name?",
    "Which city do I live in?",
    "I have moved to Ghent.",
    "What is my dog called?",
    "Where do I live now?",
    "My room number is 317.",
    "What do bees make?",
    "Do you remember my room?",
)
NOTE = (
    "Questions whose answers name the right value and no other of its kind (number of questions), by turns since it "
    "was told, in test dialogues whose values training has not seen. The control answers every turn with no memory."
)


class UpcycledCorpus(Corpus):
    """Generated dialogues with values without end, and natural dialogues, tales, meetings and books of a folder.

    Conversations of the user's own are learnt from, too. Of corpora that have no part for validation a tenth is held
    out: `rxlm.data.held_out`.
    """

    def __init__(
        self, folder: str | None, mix: UpcycledMix, seed: int, conversations: OwnConversations | None = None
    ) -> None:
        self.folder = None if folder is None else Path(os.path.expanduser(folder))
        self.mix, self.seed, self.conversations = mix, seed, conversations
        self.kinds = fact_kinds("full")
        self.recall = RecallTest(values_by_kind("full"), DISTANCES, mix.answer_tokens)
        self._made_values: Mapping[str, tuple[str, ...]] = {}
        if self.folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(f"There is no folder of data {self.folder}.")
        self.services = self._natural(read_sgd, "sgd/train.jsonl.gz")
        self.people = [
            *self._natural(read_turns, "self-dialogues/train.jsonl.gz"),
            *hold_out_by_id(self._natural(read_turns, "casino/train.jsonl.gz"))[0],
            *hold_out_by_id(self._natural(read_turns, "persuasion/train.jsonl.gz"))[0],
        ]

    def texts(self) -> Iterable[str]:
        """Return the texts of some dialogues."""
        return texts_of(self.generator("test").dialogues(1000))

    def language(self, make: BatchMaker) -> Batches:
        """Return turns."""
        return self.interactions(make)

    def interactions(self, make: BatchMaker) -> Batches:
        """Return the turns of dialogues."""
        dialogues = self.generator("train", make).dialogues(MANY)
        return make.shuffled(
            dialogues, lambda drawn: make.turn_tokenizer.interaction_batch([each.turns[0] for each in drawn])
        )

    def generator(self, split: Split, make: BatchMaker | None = None, **changes: Any) -> FactGenerator:
        """Return the generator of dialogues; in training most values are made of the words of `make`'s tokenizer."""
        settings = FactsConfig(
            variety="full", values="disjoint", split=split, max_facts=self.mix.max_facts, seed=self.seed,
            unknown_share=0.04,
        )  # fmt: skip
        more = self._open_values(make) if make is not None and split == "train" else None
        return FactGenerator(settings.replace(**changes), more)

    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return dialogues of all sources, cut to the phase's number of turns."""
        turns = phase.num_turns
        mix = self.mix
        asked = {"world_share": mix.world_share, **turn_shares(mix)}
        generator = self.generator("train", make, num_turns=turns, seed=make.seed + 1, answer_wording="plain", **asked)

        def generated(number: int) -> Iterator[Interaction]:
            return iter(generator.dialogue(number, phase.turns_of(number)).turns)

        sources = self._sources(turns)
        rest = Source(1.0 - sum(source.share for source in sources), generated)
        mixture = Mixture([rest, *sources], make.seed)
        conversations = WithDistractors(mixture, turns, mix.distractor_share, make.seed)
        return make.dialogues(MixedDialogues(conversations, turns), shuffle=False)

    def preferences(self, make: BatchMaker) -> Sequence[Preference]:
        """Return pairs of answers about generated dialogues."""
        turns = self.mix.evaluation_turns
        return FactPreferences(self.generator("train", make, num_turns=turns, seed=make.seed + 300), MANY)

    def graded(self, model: RxTAlpha) -> Mapping[str, tuple[float, int]]:
        """Return how a model answers test dialogues in which one turn in seven asks for what was never told."""
        generator = self.generator("test", num_turns=self.mix.test_turns[0], **ASKS_MORE)
        return self.recall.graded(model, generator.dialogues(self.mix.test_dialogues[0]))

    def held_out(self) -> Sequence[Dialogue]:
        """Return the dialogues that a model in training is asked."""
        generator = self.generator("test", num_turns=self.mix.evaluation_turns, seed=self.seed + 1, **ASKS_MORE)
        return generator.dialogues(self.mix.evaluation_dialogues)

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return exact recall of unseen values; see `RecallTest.figures`."""
        return self.recall.figures(model, self.held_out())

    def results(self, model: RxTAlpha) -> RunResults:
        """Ask test dialogues of all lengths, the shortest ones also with an empty memory, and converse."""
        numbers = zip(self.mix.test_turns, self.mix.test_dialogues, strict=True)
        asked = {turns: self.generator("test", num_turns=turns).dialogues(count) for turns, count in numbers}
        table = self.recall.table(model, asked, "Recall of unseen values by distance in turns", NOTE)
        own = self.conversations.table(model) if self.conversations and self.conversations.held_out else None
        return RunResults((table,) if own is None else (own, table), converse(model, MESSAGES))

    def notes(self, turn_tokenizer: TurnTokenizer) -> Sequence[str]:
        """Return what is learnt from the user's own conversations, and what of them is skipped or cut."""
        return () if self.conversations is None else self.conversations.notes(turn_tokenizer)

    # --- sources -------------------------------------------------------------------------------------------------

    def _sources(self, num_turns: int) -> list[Source]:
        """Return the sources besides generated dialogues that the folder has."""
        mix = self.mix
        own = [] if self.conversations is None else self.conversations.pieces(num_turns)
        told = min(mix.told_turns, num_turns)
        drawn = (
            (mix.conversations_share, own),
            (mix.services_share, self.services),
            (mix.people_share, self.people),
            (mix.tales_share, [part for tale in self._tales for part in around_questions(tale, told)]),
            (mix.meetings_share, self._meetings),
        )
        sources = [Source(share, drawn_from(found)) for share, found in drawn if share and found]
        books = ((mix.pages_share, told, mix.page_words), (mix.passages_share, min(2, told), mix.passage_words))
        return sources + [Source(share, self._read_aloud(*form)) for share, *form in books if share and self._books]

    def _read_aloud(self, num_turns: int, max_words: int) -> Opener:
        """Return what opens number i: consecutive pages of a book, whose answers are no references."""
        pages = BookPages(self._books, num_turns=num_turns, max_words=max_words, seed=self.seed)
        return lambda number: (replace(turn, is_reference=False) for turn in pages(number))

    def _path(self, name: str) -> Path | None:
        """Return a file of the data folder, None where it is not there."""
        path = None if self.folder is None else self.folder / name
        return path if path is not None and path.exists() else None

    def _natural(self, read: Any, name: str) -> list[Dialogue]:
        """Return dialogues between people, whose answers are no references: the model has its own."""
        path = self._path(name)
        return [] if path is None else [_without_references(dialogue) for dialogue in read(path)]

    @cached_property
    def _tales(self) -> list[Dialogue]:
        path = self._path("fairytaleqa/train.jsonl")
        tales = [] if path is None or not self.mix.tales_share else read_fairytales(path)
        return [fairytale_dialogue(tale, max_words=self.mix.tale_words) for tale in tales]

    @cached_property
    def _meetings(self) -> list[Dialogue]:
        path = self._path("qmsum/train.jsonl.gz")
        meetings = [] if path is None or not self.mix.meetings_share else read_meetings(path)
        words = self.mix.meeting_words
        return [part for each in meetings for part in meeting_dialogues(each, seed=self.seed, max_words=words)]

    @cached_property
    def _books(self) -> dict[str, str]:
        path = self._path("gutenberg-children")
        if path is None or not (self.mix.pages_share or self.mix.passages_share):
            return {}
        return {name: text for name, text in read_gutenberg(path).items() if not is_held_out(name)}

    @cached_property
    def _test_words(self) -> set[str]:
        return {word for kind in self.kinds for value in filter(is_test_value, kind.values) for word in value.split()}

    def _open_values(self, make: BatchMaker) -> Mapping[str, tuple[str, ...]]:
        if not self._made_values:
            words = WordSource(make.turn_tokenizer.tokenizer, self._test_words)
            self._made_values = open_values(self.kinds, words, self.mix.open_values, seed=self.seed)
        return self._made_values


def _without_references(dialogue: Dialogue) -> Dialogue:
    return replace(dialogue, turns=tuple(replace(turn, is_reference=False) for turn in dialogue.turns))

"""What a pretrained language model with a memory learns from: dialogues with values without end."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rxlm.data.fact_config import FactsConfig, Split
from rxlm.data.fact_conversations import is_test_value
from rxlm.data.fact_kinds import fact_kinds, values_by_kind
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.general_questions import general_questions
from rxlm.data.open_values import WordSource, open_values
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.sgd import read_sgd
from rxlm.data.small_talk import chatter
from rxlm.data.stories import Fairytale, fairytale_dialogue, read_fairytales
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.facts import MANY, converse
from rxlm.recipes.mixture import MixedDialogues, Mixture, Source, drawn_from
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recall import RecallTest
from rxlm.recipes.run_results import RunResults
from rxlm.recipes.stories import around_questions
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.training.trainer import Batches

TALE_WORDS, TALE_TURNS = 40, 5
CHATTER_SHARE = 0.14  # in training, where general questions take part of it
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
    """Generated dialogues with values without end, service dialogues and fairy tales.

    `replies` are the language model's own answers by the message (see `own_replies`), once they are there.
    """

    def __init__(self, folder: str | None, mix: UpcycledMix, seed: int) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.mix, self.seed = mix, seed
        self.kinds = fact_kinds("full")
        self.recall = RecallTest(values_by_kind("full"), DISTANCES, mix.answer_tokens)
        self.replies: dict[str, str] = {}
        self._made_values: Mapping[str, tuple[str, ...]] = {}
        self.services = self._services()
        self.tales, self.pages = self._tales()

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

    def reply_queries(self, make: BatchMaker) -> list[str]:
        """Return the messages that the language model's own replies are wanted for."""
        first = [dialogue.turns[0].query for dialogue in self._replied(make)] if self.mix.replies_share else []
        return [*first, *(general_questions() if self.mix.general_share else ())]

    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return generated dialogues of a few turns, then those of all sources, at last streams of them."""
        turns = phase.num_turns
        if phase.streams:
            longest = self.mix.stream_turns
            generator = self.generator(
                "train", make, num_turns=longest + 1, distance_law="log-uniform", chatter_share=CHATTER_SHARE,
                seed=make.seed + 100,
            )  # fmt: skip

            def stream(number: int) -> Iterator[Interaction]:
                return self._with_general_questions(generator.stream(number), number)

            return make.streams(Mixture(self._sources(make, stream), make.seed), phase)
        # Two turns and a question among them: less leaves too little to ask.
        least = {"question_share": 0.5, "chatter_share": 0.0, "unknown_share": 0.0}
        shares = least if turns == 2 else {"chatter_share": CHATTER_SHARE}
        generator = self.generator("train", make, num_turns=turns, seed=make.seed + 1, **shares)

        def generated(number: int) -> Iterator[Interaction]:
            return self._with_general_questions(generator.dialogue(number).turns, number)

        sources = [Source(1.0, generated)] if turns <= 4 else self._sources(make, generated)
        mixed = MixedDialogues(Mixture(sources, make.seed), turns)
        return make.dialogues(mixed, shuffle=False)

    def held_out(self) -> Sequence[Dialogue]:
        """Return the dialogues that a model in training is asked."""
        generator = self.generator("test", num_turns=self.mix.evaluation_turns, seed=self.seed + 1)
        return generator.dialogues(self.mix.evaluation_dialogues)

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return exact recall of unseen values; see `RecallTest.figures`."""
        return self.recall.figures(model, self.held_out())

    def results(self, model: RxTAlpha) -> RunResults:
        """Ask test dialogues of all lengths, the shortest ones also with an empty memory, and converse."""
        numbers = zip(self.mix.test_turns, self.mix.test_dialogues, strict=True)
        asked = {turns: self.generator("test", num_turns=turns).dialogues(count) for turns, count in numbers}
        table = self.recall.table(model, asked, "Recall of unseen values by distance in turns", NOTE)
        return RunResults((table,), converse(model, MESSAGES))

    # --- sources -------------------------------------------------------------------------------------------------

    def _sources(self, make: BatchMaker, generated: Callable[[int], Iterator[Interaction]]) -> list[Source]:
        replied = self._with_replies(make)
        sources = [
            Source(self.mix.services_share if self.services else 0.0, drawn_from(self.services)),
            Source(self.mix.tales_share if self.tales else 0.0, drawn_from(self.tales)),
            Source(self.mix.pages_share if self.pages else 0.0, drawn_from(self.pages)),
            Source(self.mix.replies_share if replied else 0.0, drawn_from(replied)),
        ]
        rest = 1.0 - sum(source.share for source in sources)
        return [Source(rest, generated), *(source for source in sources if source.share)]

    def _replied(self, make: BatchMaker) -> Sequence[Dialogue]:
        generator = self.generator("train", make, num_turns=9, seed=self.seed + 300)
        return generator.dialogues(self.mix.replies)

    def _with_replies(self, make: BatchMaker) -> list[Dialogue]:
        changed = []
        for dialogue in self._replied(make) if self.replies and self.mix.replies_share else ():
            first, *others = dialogue.turns
            first = replace(first, answer=self.replies[first.query], is_reference=False)
            changed.append(replace(dialogue, turns=(first, *others)))
        return changed

    def _with_general_questions(self, turns: Iterable[Interaction], number: int) -> Iterator[Interaction]:
        """Put general questions, where they have been answered, in the place of some small talk."""
        rng = random.Random(f"{self.seed}/general/{number}")
        for turn in turns:
            if turn.query in self._small_talk and self.replies and rng.random() < self.mix.general_share:
                query = rng.choice(general_questions())
                turn = Interaction(query, self.replies[query], is_reference=False)
            yield turn

    @cached_property
    def _small_talk(self) -> set[str]:
        return {wording.query for wording in chatter("full")}

    def _services(self) -> list[Dialogue]:
        if self.folder is None:
            return []
        return [
            replace(dialogue, turns=tuple(replace(turn, is_reference=False) for turn in dialogue.turns))
            for dialogue in read_sgd(self.folder / "sgd" / "train.jsonl.gz")
        ]

    def _tales(self) -> tuple[list[Dialogue], list[Dialogue]]:
        """Return questions about tales, with the turns before them, and pages of the tales."""
        if self.folder is None:
            return [], []
        tales = read_fairytales(self.folder / "fairytaleqa" / "train.jsonl")
        told = (fairytale_dialogue(tale, max_words=TALE_WORDS) for tale in tales)
        asked = [part for tale in told for part in around_questions(tale, TALE_TURNS)]
        return asked, [page for tale in tales for page in _pages(tale)]

    @cached_property
    def _test_words(self) -> set[str]:
        return {word for kind in self.kinds for value in filter(is_test_value, kind.values) for word in value.split()}

    def _open_values(self, make: BatchMaker) -> Mapping[str, tuple[str, ...]]:
        if not self._made_values:
            words = WordSource(make.turn_tokenizer.tokenizer, self._test_words)
            self._made_values = open_values(self.kinds, words, self.mix.open_values, seed=self.seed)
        return self._made_values


def _pages(tale: Fairytale) -> Iterator[Dialogue]:
    """Divide a tale into conversations of two turns that go on with its text."""
    words = " ".join(tale.sections).split()
    pieces = [" ".join(words[start : start + TALE_WORDS]) for start in range(0, len(words), TALE_WORDS)]
    for first in range(0, len(pieces) - 3, 4):
        turns = tuple(Interaction(pieces[n], pieces[n + 1], is_reference=False) for n in (first, first + 2))
        yield Dialogue(turns, f"FairytaleQA {tale.name}")

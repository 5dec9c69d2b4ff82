"""The recipe `stories`: language from books and stories, memory from told fairy tales and service dialogues.

Stage 1 reads children's books and short stories; stages 2 to 4 are told FairytaleQA's stories piece by piece, answer
questions about them, and book restaurants as in the Schema-Guided Dialogues.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from rxlm.config import config, require, require_int
from rxlm.data.contamination import contaminated, without
from rxlm.data.dialogue_pieces import DrawnConversations
from rxlm.data.facts import texts_of
from rxlm.data.packing import Packed, TextPacker
from rxlm.data.records import Dialogue
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import (
    Fairytale,
    fairytale_dialogue,
    read_fairytales,
    read_gutenberg,
    read_picture_books,
    read_tiny_stories,
)
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.facts import converse
from rxlm.recipes.perplexities import Counts, is_follow_up, is_question, memory_perplexities, perplexity_table
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import ReactiveRecipe, model_of_size
from rxlm.recipes.run_results import RunResults
from rxlm.recipes.stages import (
    MemoryAttentionStage,
    MemoryAwareStage,
    interactions_stage,
    language_stage,
    steps_of,
)
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import OptimizerConfig
from rxlm.training.memory_aware import MemoryAwareConfig
from rxlm.training.trainer import Batches

WATCHED_DIALOGUES = 16
SAMPLE_TURNS = 8


@config
class StoriesRecipe(ReactiveRecipe):
    """A run on books, stories, FairytaleQA and SGD.

    Fields:
        data: folder that holds all of them.
        books, picture_books, short_stories: texts for stage 1 within it: a folder of Project Gutenberg files, a JSONL
            of titles and pages, a text file of TinyStories. None leaves one out.
        fairytales, services: folders within it with the files train.jsonl and val.jsonl of FairytaleQA (None leaves
            tales out), and train.jsonl.gz and dev.jsonl.gz of SGD.
        piece_words: a section of a fairy tale with more words is told in several turns.
        validation_dialogues: SGD dialogues that the finished model is measured on.
    """

    data: str | None = None
    books: str | None = "gutenberg-children"
    picture_books: str | None = "simple-stories/stories.jsonl"
    short_stories: str | None = "tinystories-sample/tiny_stories.txt"
    fairytales: str | None = "fairytaleqa"
    services: str = "sgd"
    piece_words: int = 60
    validation_dialogues: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "piece_words", "validation_dialogues")
        texts = (self.books, self.picture_books, self.short_stories)
        require(any(texts), "StoriesRecipe needs books, picture_books or short_stories for stage 1; all are None.")

    def open_corpus(self) -> "StoriesCorpus":
        """Read the files."""
        require(self.data is not None, "The recipe stories needs the folder of its data: --data FOLDER.")
        return StoriesCorpus(self)


class StoriesCorpus(Corpus):
    """Texts without the passages that FairytaleQA's validation stories have, too, and dialogues from two sources."""

    def __init__(self, recipe: StoriesRecipe) -> None:
        self.recipe = recipe
        root = Path(os.path.expanduser(str(recipe.data)))
        tales = {name: _fairytales(recipe, root, name) for name in ("train", "val")}
        held_out = {tale.name: " ".join(tale.sections) for tale in tales["val"]}
        self.documents = list(without(_documents(recipe, root), held_out.values()))
        told_in_training = contaminated(held_out, [" ".join(tale.sections) for tale in tales["train"]])
        self.tales = self._told(tales["train"])
        self.validation_tales = self._told(tale for tale in tales["val"] if tale.name not in told_in_training)
        self.services = read_sgd(root / recipe.services / "train.jsonl.gz")
        self.validation_services = read_sgd(root / recipe.services / "dev.jsonl.gz")[: recipe.validation_dialogues]

    def texts(self) -> Iterable[str]:
        """Return documents and dialogues."""
        return chain(self.documents, texts_of(self.tales), texts_of(self.services))

    def language(self, make: BatchMaker) -> Batches:
        """Return documents, packed."""
        packer = TextPacker(make.turn_tokenizer.tokenizer, make.tokens, seq_len=make.turn_tokenizer.max_tokens)
        sequences: list[Packed] = list(packer.pack(self.documents))
        return make.shuffled(sequences, packer.batch)

    def interactions(self, make: BatchMaker) -> Batches:
        """Return turns: questions about tales, and service turns."""
        asked = [turn for tale in self.tales for turn in tale.turns if turn.question is not None]
        return make.shuffled(
            [*asked, *(turn for dialogue in self.services for turn in dialogue.turns)],
            make.turn_tokenizer.interaction_batch,
        )

    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return tales and service dialogues, as many of the ones as of the others."""
        if phase.streams:
            return make.streams(DrawnConversations([self.tales, self.services], seed=make.seed), phase)
        tales = [part for tale in self.tales for part in around_questions(tale, phase.num_turns)]
        return make.streams(
            DrawnConversations([tales, self.services], seed=make.seed, max_turns=phase.num_turns), phase
        )

    def held_out(self) -> Sequence[Dialogue]:
        """Return some validation dialogues of both kinds."""
        return [*self.validation_services[:WATCHED_DIALOGUES], *self.validation_tales[:WATCHED_DIALOGUES]]

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return minus the loss of answers with the true memory, and perplexities by memory, on a few dialogues."""
        figures: dict[str, float] = {}
        for name, dialogues, counts in self._validation():
            read = memory_perplexities(model, dialogues[:WATCHED_DIALOGUES], counts)
            figures |= {f"perplexity/{name}_{memory}": value for memory, value in read.items()}
        return {"score": -sum(value for name, value in figures.items() if name.endswith("_true"))} | figures

    def results(self, model: RxTAlpha) -> RunResults:
        """Measure perplexities on all validation dialogues, and let the model live through the start of one of each."""
        titles = {"services": "SGD dev, turns after the first", "tales": "FairytaleQA val, questions"}
        figures = {
            titles[name]: memory_perplexities(model, dialogues, counts)
            for name, dialogues, counts in self._validation()
        }
        sampled = [self.validation_services[0]]
        if self.validation_tales:
            sampled += around_questions(self.validation_tales[0], SAMPLE_TURNS)[:1]
        talk = [pair for dialogue in sampled for pair in converse(model, [turn.query for turn in dialogue.turns])]
        return RunResults((perplexity_table(figures),), tuple(talk))

    def _validation(self) -> list[tuple[str, Sequence[Dialogue], Counts]]:
        """Return validation dialogues by their source, each with the turns that count."""
        sources = [("services", self.validation_services, is_follow_up), ("tales", self.validation_tales, is_question)]
        return [source for source in sources if source[1]]

    def _told(self, tales: Iterable[Fairytale]) -> list[Dialogue]:
        return [fairytale_dialogue(tale, max_words=self.recipe.piece_words) for tale in tales]


def _fairytales(recipe: StoriesRecipe, root: Path, split: str) -> list[Fairytale]:
    return read_fairytales(root / recipe.fairytales / f"{split}.jsonl") if recipe.fairytales else []


def _documents(recipe: StoriesRecipe, root: Path) -> list[str]:
    documents: list[str] = []
    if recipe.books:
        documents += read_gutenberg(root / recipe.books).values()
    if recipe.picture_books:
        documents += read_picture_books(root / recipe.picture_books)
    if recipe.short_stories:
        documents += read_tiny_stories(root / recipe.short_stories)
    return documents


def around_questions(tale: Dialogue, num_turns: int) -> list[Dialogue]:
    """Return short dialogues of a tale: the turns that a question needs, or their end, and the question."""
    parts, references = [], tale.details.get("references")
    for number, turn in enumerate(tale.turns):
        if turn.question is not None and turn.question.distance is not None:
            first = number - turn.question.distance
            window = range(first, min(first + num_turns - 1, len(tale)))
            places = [place for place in window if tale.turns[place].question is None] + [number]
            details = dict(tale.details)
            if references is not None:
                details["references"] = tuple(references[place] for place in places)
            parts.append(Dialogue(tuple(tale.turns[place] for place in places), tale.source, details))
    return parts


def stories() -> StoriesRecipe:
    """About 3 M parameters on books, stories, tales and service dialogues; half an hour on one core."""
    optimizer = OptimizerConfig(learning_rate=2e-3, warmup_steps=30)
    dialogues = MemoryAwareStage(
        **steps_of(
            DialoguePhase(steps=100, num_turns=2, batch_size=96),
            DialoguePhase(steps=150, num_turns=4, batch_size=48),
            DialoguePhase(steps=200, num_turns=8, batch_size=24),
        ),
        batch_size=24,
        optimizer=optimizer,
        evaluate_every=100,
        checkpoint_every=100,
        settings=MemoryAwareConfig(unroll=8),
    )
    streams = dialogues.replace(
        folder="4b-streams",
        **steps_of(DialoguePhase(steps=200, num_turns=8, streams=True, reset_probability=0.0)),
        optimizer=optimizer.replace(learning_rate=1e-3),
    )
    return StoriesRecipe(
        name="stories",
        vocab_size=4096,
        **model_of_size("tiny", num_layers=4, num_slots=32, max_seq_len=160, ff_dim=384),
        stages=(
            language_stage(steps=400, batch_size=32, optimizer=optimizer, checkpoint_every=100),
            interactions_stage(steps=150, batch_size=64, optimizer=optimizer, checkpoint_every=50),
            MemoryAttentionStage(steps=20, batch_size=16, optimizer=optimizer, checkpoint_every=None),
            dialogues,
            streams,
        ),
    )

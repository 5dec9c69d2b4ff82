"""The recipes of the RxT papers' models, `nano` to `alpha`: TinyStories, then the public RxT datasets, by hub id.

They want a GPU. The settings that the papers give are kept (label weights of stage 3, gradual unfreezing in stage 4,
noise as initial memory); steps and learning rates are ours. Every source can be a local file or folder instead, so that
the same recipe trains on anybody's text, interactions and dialogues.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar, get_args

from rxlm.config import Config, config, require, require_choice, require_int
from rxlm.data.fields import BadRecords
from rxlm.data.loaders import stream_dialogues, stream_interactions, stream_texts
from rxlm.data.packing import PackedTexts, TextPacker
from rxlm.data.record_source import RecordSource
from rxlm.data.records import Dialogue
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.facts import converse
from rxlm.recipes.perplexities import memory_perplexities, perplexity_table
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

R = TypeVar("R")

TOKENIZER_RECORDS = 200_000
CHECKED = 1000
WATCHED_DIALOGUES = 64


@config
class DataSource(Config):
    """Where records come from, which need not fit in memory.

    Fields:
        source: a file, folder or glob pattern, or the id of a hub dataset. name, split: subset and split of a dataset.
        shuffle_buffer: records that each process holds and shuffles, before it reads the next ones.
        bad_records: what is done about one that cannot be used: "stop", or "skip" it.
    """

    source: str
    name: str | None = None
    split: str = "train"
    shuffle_buffer: int = 10_000
    bad_records: BadRecords = "stop"

    def __post_init__(self) -> None:
        require_int(self, "shuffle_buffer")
        require_choice(self, "bad_records", get_args(BadRecords))

    def open(self, stream: Callable[..., RecordSource[R]]) -> RecordSource[R]:
        """Return the records, read by one of `rxlm.data.loaders`; a bad one among the first is an error here."""
        source = stream(self.source, name=self.name, split=self.split, bad_records=self.bad_records)
        source.validate(limit=CHECKED)
        return source


@config
class ScaleRecipe(ReactiveRecipe):
    """A run on any text, interactions and dialogues.

    Fields:
        text_data, interaction_data, dialogue_data: what stages 1, 2, and 3 and 4 learn from.
        validation_dialogues: the first dialogues, held out and measured.
    """

    text_data: DataSource
    interaction_data: DataSource
    dialogue_data: DataSource
    validation_dialogues: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "validation_dialogues")

    def open_corpus(self) -> "ScaleCorpus":
        """Read the beginning of the data."""
        return ScaleCorpus(self)


class ScaleCorpus(Corpus):
    """Records are read while they are needed, by each process its own; only dialogues that are held out are held."""

    def __init__(self, recipe: ScaleRecipe) -> None:
        self.recipe = recipe
        self.stream = recipe.text_data.open(stream_texts)
        self.turns = recipe.interaction_data.open(stream_interactions)
        count = recipe.validation_dialogues
        self.validation, self.conversations = recipe.dialogue_data.open(stream_dialogues).split_off(count)
        require(
            self.conversations.validate(limit=1) > 0,
            f"ScaleRecipe.validation_dialogues is {count} and {recipe.dialogue_data.source} has only "
            f"{len(self.validation)} dialogues.",
        )

    def texts(self) -> Iterable[str]:
        """Return the first texts and the first interactions."""
        turns = islice(self.turns, TOKENIZER_RECORDS)
        return chain(
            islice(self.stream, TOKENIZER_RECORDS), (text for turn in turns for text in (turn.query, turn.answer))
        )

    def language(self, make: BatchMaker) -> Batches:
        """Return text, packed."""
        packer = TextPacker(make.turn_tokenizer.tokenizer, make.tokens, seq_len=make.turn_tokenizer.max_tokens)
        texts = make.records(self.stream, self.recipe.text_data.shuffle_buffer)
        return make.streamed(PackedTexts(texts, packer), packer.batch)

    def interactions(self, make: BatchMaker) -> Batches:
        """Return interactions."""
        turns = make.records(self.turns, self.recipe.interaction_data.shuffle_buffer)
        return make.streamed(turns, make.turn_tokenizer.interaction_batch)

    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return dialogues, cut to the phase's number of turns but in streams."""
        dialogues = make.records(self.conversations, self.recipe.dialogue_data.shuffle_buffer)
        return make.streamed_dialogues(dialogues, phase)

    def held_out(self) -> Sequence[Dialogue]:
        """Return some of the held-out dialogues."""
        return self.validation[:WATCHED_DIALOGUES]

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return minus the perplexity with the true memory, and perplexities by memory."""
        figures = memory_perplexities(model, self.held_out())
        return {"score": -figures["true"]} | {f"perplexity/{memory}": value for memory, value in figures.items()}

    def results(self, model: RxTAlpha) -> RunResults:
        """Measure perplexities on the held-out dialogues, and let the model live through the first of them."""
        table = perplexity_table({"held-out dialogues": memory_perplexities(model, self.validation)})
        return RunResults((table,), converse(model, [turn.query for turn in self.validation[0].turns]))


def scale_recipe(preset: str) -> Callable[[], ScaleRecipe]:
    """Return the recipe of a preset's size."""

    def recipe() -> ScaleRecipe:
        phases = (DialoguePhase(steps=n, num_turns=turns) for n, turns in ((4000, 2), (4000, 4), (8000, 7)))
        model = model_of_size(preset)
        return ScaleRecipe(
            name=preset,
            vocab_size=model["decoder"].vocab_size,
            **model,
            text_data=DataSource(source="roneneldan/TinyStories"),
            interaction_data=DataSource(source="ReactiveAI/TinyStories-Plus-Interaction-SFT"),
            dialogue_data=DataSource(source="ReactiveAI/TinyStories-MRL", name="steps-6", split="supervised"),
            stages=(
                language_stage(steps=20_000, batch_size=128, **_loop(1e-3)),
                interactions_stage(steps=8000, batch_size=128, **_loop(5e-4)),
                MemoryAttentionStage(steps=1000, batch_size=32, **_loop(5e-4)),
                MemoryAwareStage(
                    **steps_of(*phases),
                    batch_size=32,
                    **_loop(3e-4),
                    evaluate_every=1000,
                    settings=MemoryAwareConfig(unroll=8, unfreeze_memory_at=1000, unfreeze_encoder_at=2000),
                ),
            ),
        )

    recipe.__name__ = recipe.__qualname__ = preset
    recipe.__doc__ = f"The preset `{preset}` as in the papers: TinyStories, then the public RxT datasets."
    return recipe


def _loop(learning_rate: float) -> dict[str, Any]:
    return {"optimizer": OptimizerConfig(learning_rate=learning_rate, warmup_steps=500), "checkpoint_every": 500}

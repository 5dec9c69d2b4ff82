"""The recipe `llm`: a stateless decoder-only language model on the data of another recipe.

With the same tokenizer, data and size it is what a Reactive Transformer is compared with: it reads the whole
conversation anew at every turn.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.config import Config, config, require, require_choice, require_int
from rxlm.data.tokenizer import train_tokenizer
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM
from rxlm.mrq_bench.reading import ReadTurn, perplexity, read_with_history
from rxlm.nn.heads import ATTENTION_VARIANTS
from rxlm.recipes.babi import babi
from rxlm.recipes.corpus import Results, ResultTable
from rxlm.recipes.facts import retention, tiny
from rxlm.recipes.perplexities import is_follow_up, is_question
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import Recipe, override
from rxlm.recipes.run import curriculum
from rxlm.recipes.scale import scale_recipe
from rxlm.recipes.stories import stories
from rxlm.recipes.training_run import Stage, TrainingRun
from rxlm.training.causal_lm import CausalLanguageModelling
from rxlm.training.config import OptimizerConfig, TrainingConfig

CORPORA: dict[str, Callable[[], Recipe]] = {
    "tiny": tiny,
    "retention": retention,
    "babi": babi,
    "stories": stories,
    **{preset: scale_recipe(preset) for preset in ("nano", "micro", "mini", "alpha")},
}
"""The recipes of Reactive Transformers, by name; their data is what it can learn from."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '[A]' + message['content'] + eos_token }}"
    "{% else %}{{ bos_token + '[Q]' + message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[A]' }}{% endif %}"
)
"""A conversation as turns of `[BOS][Q]query[A]answer[EOS]`, one after another."""


@config
class LanguageModelRecipe(Config):
    """A whole run of a stateless language model: packed text, then conversations with their full history.

    Fields:
        name: of the recipe.
        corpus: name of the recipe whose data and tokenizer it takes. data: folder of the data, where that needs one;
            corpus_fields: other fields of that recipe to change, as field=value.
        attention, dim, num_layers, num_heads, ff_dim, sliding_window, num_experts, tie_head, max_positions: the model,
            see `DecoderLMConfig`.
        language: first stage, on text (None leaves it out). dialogues: second stage, on conversations.
        phases: the curriculum of the second stage, without streams: a model without memory has no use for them.
        seed: of everything.
    """

    name: str
    corpus: str = "tiny"
    data: str | None = None
    corpus_fields: tuple[str, ...] = ()
    attention: str = "sqa"
    dim: int = 128
    num_layers: int = 5
    num_heads: int = 8
    ff_dim: int = 256
    sliding_window: int | None = None
    num_experts: int = 0
    tie_head: bool = False
    max_positions: int = 2048
    language: TrainingConfig | None = None
    dialogues: TrainingConfig
    phases: tuple[DialoguePhase, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice(self, "corpus", tuple(CORPORA))
        require_choice(self, "attention", ATTENTION_VARIANTS)
        require_int(self, "dim", "num_layers", "num_heads", "ff_dim", "max_positions")
        require_int(self, "seed", "num_experts", minimum=0)
        require(
            sum(phase.steps for phase in self.phases) == self.dialogues.steps,
            f"LanguageModelRecipe.dialogues.steps is {self.dialogues.steps}, and phases have "
            f"{sum(phase.steps for phase in self.phases)} steps: they must be the same.",
        )
        require(
            not any(phase.streams for phase in self.phases),
            "LanguageModelRecipe.phases must have no streams: a model without memory begins each batch anew.",
        )

    def source(self) -> Recipe:
        """Return the recipe whose data and tokenizer it takes."""
        data = () if self.data is None else (f"data={self.data}",)
        return CORPORA[self.corpus]().override((*data, *self.corpus_fields))

    def override(self, changes: Any) -> "LanguageModelRecipe":
        """Return a copy with fields changed; see `Recipe.override`."""
        return override(self, changes)


class LanguageModelRun(TrainingRun[DecoderLMForCausalLM]):
    """A run of the recipe in a folder; raises as `TrainingRun` does."""

    stage_fields: ClassVar = {"language": ("language",), "dialogues": ("dialogues", "phases")}

    def __init__(self, recipe: LanguageModelRecipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.recipe = recipe
        self.source = source = recipe.source()
        super().__init__(
            recipe,
            recipe.name,
            folder,
            source.corpus,
            device,
            seed=recipe.seed,
            max_tokens=min(source.decoder.max_seq_len, recipe.max_positions),
        )
        self.tokenizer.chat_template = CHAT_TEMPLATE

    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Train a tokenizer on the corpus, as the recipe does whose data this is."""
        source = self.source
        return train_tokenizer(self.corpus.texts(), source.vocab_size, whole_words=source.whole_words)

    def stages(self) -> list[Stage]:
        """Return the stages that the recipe has, in order."""
        recipe, corpus = self.recipe, self.corpus
        stages = [
            Stage(
                "dialogues",
                recipe.dialogues,
                CausalLanguageModelling,
                lambda make, _: curriculum(corpus, make, recipe.phases),
            )
        ]
        if recipe.language is not None:
            stages.insert(
                0, Stage("language", recipe.language, CausalLanguageModelling, lambda make, _: corpus.language(make))
            )
        return stages

    def new_model(self) -> DecoderLMForCausalLM:
        """Return a model with its first weights."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        return DecoderLMForCausalLM(
            DecoderLMConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=recipe.dim,
                intermediate_size=recipe.ff_dim,
                num_hidden_layers=recipe.num_layers,
                num_attention_heads=recipe.num_heads,
                attention=recipe.attention,
                sliding_window=recipe.sliding_window,
                num_experts=recipe.num_experts,
                max_position_embeddings=recipe.max_positions,
                tie_word_embeddings=recipe.tie_head,
                pad_token_id=self.tokens.pad_token_id,
                bos_token_id=self.tokens.bos_token_id,
                eos_token_id=self.tokens.eos_token_id,
            )
        )

    def load_model(self, folder: Path) -> DecoderLMForCausalLM:
        """Load a model."""
        return DecoderLMForCausalLM.from_pretrained(folder).train()

    def save_model(self, model: DecoderLMForCausalLM, folder: Path) -> None:
        """Save a model and its tokenizer, with the chat template."""
        self.tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)

    def what_next(self) -> str:
        """Return a command that goes on with the finished model."""
        return f"rxlm bench compare {self.folder} OTHER"

    def evaluate(self, model: DecoderLMForCausalLM) -> Mapping[str, float]:
        """Return the share of questions (of all answers, where none is asked) predicted exactly, and perplexity."""
        read = list(read_with_history(model, self.turn_tokenizer, self.corpus.held_out()))
        asked = [each for each in read if is_question(each)] or read
        return {"exact": fmean(each.is_exact for each in asked), "perplexity": perplexity(read, is_follow_up)}

    def measure(self, model: DecoderLMForCausalLM) -> Results:
        """Return exact answers by their distance from what they need, as predicted from the whole conversation."""
        read = list(read_with_history(model.eval(), self.turn_tokenizer, self.corpus.held_out()))
        rows = [
            ("all turns after the first", *_cells([each for each in read if is_follow_up(each)])),
            ("questions", *_cells([each for each in read if is_question(each)])),
        ]
        note = (
            "Reference answers of held-out dialogues, each predicted from all that was said before it. For answers "
            "that it gives by itself, and beside other models: rxlm bench compare."
        )
        table = ResultTable("Answers, with the whole history", ("", "exact", "perplexity", "turns"), tuple(rows), note)
        return Results((table,))


def _cells(read: list[ReadTurn]) -> tuple[str, str, str]:
    exact = f"{fmean(each.is_exact for each in read):.1%}" if read else ""
    return exact, f"{perplexity(read):.3f}" if read else "", str(len(read))


def llm() -> LanguageModelRecipe:
    """A stateless model beside `tiny`: as many parameters, steps and dialogues a step."""
    phases = (
        DialoguePhase(steps=100, num_turns=2),
        DialoguePhase(steps=100, num_turns=3),
        DialoguePhase(steps=150, num_turns=4),
        DialoguePhase(steps=200, num_turns=6),
        DialoguePhase(steps=700, num_turns=8),
    )
    optimizer = OptimizerConfig(learning_rate=2e-3, warmup_steps=20)
    return LanguageModelRecipe(
        name="llm",
        language=TrainingConfig(steps=160, batch_size=256, optimizer=optimizer, checkpoint_every=None),
        dialogues=TrainingConfig(
            steps=sum(phase.steps for phase in phases), batch_size=64, optimizer=optimizer, evaluate_every=300
        ),
        phases=phases,
    )

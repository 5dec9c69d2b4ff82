"""The recipe `llm`: a stateless decoder-only language model on the data of another recipe.

With the same tokenizer, data and size it is what a Reactive Transformer is compared with: it reads the whole
conversation anew at every turn.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from rxlm.config import config, require, require_choice, require_int
from rxlm.data.tokenizer import BOS, SPECIAL_TOKENS, train_tokenizer
from rxlm.folders import saving
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM
from rxlm.mrq_bench.teacher_forcing import PredictedAnswer, perplexity, predict_with_history
from rxlm.nn.heads import ATTENTION_VARIANTS
from rxlm.recipes.babi import babi
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.facts import retention, tiny
from rxlm.recipes.perplexities import is_follow_up, is_question
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import ReactiveRecipe, Recipe
from rxlm.recipes.run_results import ResultTable, RunResults
from rxlm.recipes.scale import scale_recipe
from rxlm.recipes.stages import PhasedStage, StageConfig, steps_of
from rxlm.recipes.stories import stories
from rxlm.recipes.training_run import TrainingRun
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.training.causal_lm import CausalLanguageModelling
from rxlm.training.config import OptimizerConfig
from rxlm.training.trainer import Batches

CORPORA: dict[str, Callable[[], ReactiveRecipe]] = {
    "tiny": tiny,
    "retention": retention,
    "babi": babi,
    "stories": stories,
    **{preset: scale_recipe(preset) for preset in ("nano", "micro", "mini", "alpha")},
}
"""The recipes of Reactive Transformers, by name; their data is what it can learn from."""

CHAT_TEMPLATE = """
{%- macro text_of(content) -%}
    {%- set whole = namespace(text='') -%}
    {%- for part in ([content] if content is string else content or []) -%}
        {%- set whole.text = whole.text ~ (part if part is string else part.text or '') -%}
    {%- endfor -%}
    {%- for token in SPECIAL_TOKENS -%}
        {%- set whole.text = whole.text | replace(token, token[0] ~ '\u2060' ~ token[1:]) -%}
    {%- endfor -%}
    {{- whole.text -}}
{%- endmacro -%}
{%- set side = namespace(now='') -%}
{%- for message in messages -%}
    {%- set text = text_of(message.content) -%}
    {%- if message.role == 'tool' -%}
        {%- set text = '<tool_response>\n' ~ text ~ '\n</tool_response>' -%}
    {%- endif -%}
    {%- set next = 'answer' if message.role == 'assistant' else 'query' -%}
    {%- if text or message.role != 'system' -%}
        {%- if next == side.now -%}
            {{- '\n\n' -}}
        {%- else -%}
            {{- '[A]' if next == 'answer' else (eos_token if side.now else '') ~ bos_token ~ '[Q]' -}}
        {%- endif -%}
        {{- text -}}
        {%- set side.now = next -%}
    {%- endif -%}
{%- endfor -%}
{%- if side.now == 'answer' -%}{{- eos_token -}}{%- endif -%}
{%- if add_generation_prompt -%}{{- '[A]' -}}{%- endif -%}
""".replace("SPECIAL_TOKENS", repr(list(SPECIAL_TOKENS)))
"""A conversation as turns of `[BOS][Q]query[A]answer[EOS]`, one after another, as `rxlm.data.messages` joins messages.

Special tokens that somebody typed are written with U+2060, a word joiner, in them: a text never ends a turn.
"""


@config
class CausalTextStage(StageConfig):
    """Next-token prediction on text."""

    kind: str = "causal_text"
    folder: str = "1-language"

    def module(self, model: Any) -> CausalLanguageModelling:
        """Return next-token prediction."""
        return CausalLanguageModelling(model)

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return text."""
        return corpus.language(make)


@config
class CausalDialoguesStage(PhasedStage):
    """Next-token prediction of the answers in conversations, phase by phase."""

    kind: str = "causal_dialogues"
    folder: str = "4-dialogues"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not any(phase.streams for phase in self.phases),
            f"{self.id}.phases must have no streams: a model without memory begins each batch anew.",
        )

    def microbatch(self, max_tokens: int) -> tuple[int, int]:
        """Return rows and tokens of the largest microbatch: a conversation is a row."""
        return self._largest(lambda rows, turns: (rows, turns * max_tokens))

    def module(self, model: Any) -> CausalLanguageModelling:
        """Return next-token prediction."""
        return CausalLanguageModelling(model)

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return dialogues, phase by phase."""
        return make.phased(self.phases, corpus.dialogues)


@config
class LanguageModelRecipe(Recipe):
    """A whole run of a stateless language model: packed text, then conversations with their full history.

    Fields:
        corpus: name of the recipe whose data and tokenizer it takes. data: folder of the data, where that needs one;
            corpus_fields: other fields of that recipe to change, as field=value.
        attention, dim, num_layers, num_heads, ff_dim, sliding_window, num_experts, tie_head, max_positions: the model,
            see `DecoderLMConfig`.
    """

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

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "corpus", tuple(CORPORA))
        require_choice(self, "attention", ATTENTION_VARIANTS)
        require_int(self, "dim", "num_layers", "num_heads", "ff_dim", "max_positions")
        require_int(self, "num_experts", minimum=0)

    def source(self) -> ReactiveRecipe:
        """Return the recipe whose data and tokenizer it takes."""
        data = () if self.data is None else (f"data={self.data}",)
        return CORPORA[self.corpus]().override((*data, *self.corpus_fields))

    def open_corpus(self) -> Corpus:
        """Open the data of the other recipe."""
        return self.source().open_corpus()

    @property
    def max_tokens(self) -> int:
        """Length of the longest interaction: the other recipe's, where it fits."""
        return min(self.source().max_tokens, self.max_positions)

    def model_of_shape(
        self, vocab_size: int | None = None, tokens: RxTAlphaTokenizerConfig | None = None
    ) -> DecoderLMForCausalLM:
        """Return a model of this size, for a vocabulary, that of the other recipe if not given, and special tokens."""
        tokens = tokens or RxTAlphaTokenizerConfig()
        return DecoderLMForCausalLM(
            DecoderLMConfig(
                vocab_size=self.source().vocab_size if vocab_size is None else vocab_size,
                hidden_size=self.dim,
                intermediate_size=self.ff_dim,
                num_hidden_layers=self.num_layers,
                num_attention_heads=self.num_heads,
                attention=self.attention,
                sliding_window=self.sliding_window,
                num_experts=self.num_experts,
                max_position_embeddings=self.max_positions,
                tie_word_embeddings=self.tie_head,
                pad_token_id=tokens.pad_token_id,
                bos_token_id=tokens.bos_token_id,
                eos_token_id=tokens.eos_token_id,
            )
        )


class LanguageModelRun(TrainingRun[LanguageModelRecipe, DecoderLMForCausalLM]):
    """A run of the recipe in a folder; raises as `TrainingRun` does."""

    def __init__(self, recipe: LanguageModelRecipe, folder: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(recipe, folder, *arguments, **options)
        self.tokenizer.chat_template = CHAT_TEMPLATE
        # Plain text begins with [BOS], as the texts of the first stage do; `add_special_tokens=False` leaves it out.
        self.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, self.tokens.bos_token_id)]
        )

    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Train a tokenizer on the corpus, as the recipe does whose data this is."""
        source = self.recipe.source()
        return train_tokenizer(self.corpus.texts(), source.vocab_size, whole_words=source.whole_words)

    def new_model(self) -> DecoderLMForCausalLM:
        """Return a model with its first weights."""
        torch.manual_seed(self.recipe.seed)
        return self.recipe.model_of_shape(len(self.tokenizer), self.tokens)

    def load_model(self, folder: Path) -> DecoderLMForCausalLM:
        """Load a model."""
        return DecoderLMForCausalLM.from_pretrained(folder).train()

    def save_model(self, model: DecoderLMForCausalLM, folder: Path) -> None:
        """Save a model and its tokenizer, with the chat template."""
        with saving(folder) as draft:
            self.tokenizer.save_pretrained(draft)
            model.save_pretrained(draft)

    def what_next(self) -> str:
        """Return a command that goes on with the finished model."""
        return f"rxlm bench compare {self.folder} OTHER"

    def evaluate(self, model: DecoderLMForCausalLM) -> Mapping[str, float]:
        """Return the share of questions (of all answers, where none is asked) predicted exactly, and perplexity."""
        predicted = list(predict_with_history(model, self.turn_tokenizer, self.corpus.held_out()))
        asked = [each for each in predicted if is_question(each)] or predicted
        return {"exact": fmean(each.is_exact for each in asked), "perplexity": perplexity(predicted, is_follow_up)}

    def measure(self, model: DecoderLMForCausalLM) -> RunResults:
        """Return exact answers by their distance from what they need, as predicted from the whole conversation."""
        predicted = list(predict_with_history(model.eval(), self.turn_tokenizer, self.corpus.held_out()))
        rows = [
            ("all turns after the first", *_cells([each for each in predicted if is_follow_up(each)])),
            ("questions", *_cells([each for each in predicted if is_question(each)])),
        ]
        note = (
            "Reference answers of held-out dialogues, each predicted from all that was said before it. For answers "
            "that it gives by itself, and beside other models: rxlm bench compare."
        )
        table = ResultTable("Answers, with the whole history", ("", "exact", "perplexity", "turns"), tuple(rows), note)
        return RunResults((table,))


def _cells(predicted: list[PredictedAnswer]) -> tuple[str, str, str]:
    exact = f"{fmean(each.is_exact for each in predicted):.1%}" if predicted else ""
    return exact, f"{perplexity(predicted):.3f}" if predicted else "", str(len(predicted))


def llm() -> LanguageModelRecipe:
    """A stateless model beside `tiny`: as many parameters, steps and dialogues a step."""
    optimizer = OptimizerConfig(learning_rate=2e-3, warmup_steps=20)
    phases = (
        DialoguePhase(steps=steps, num_turns=turns)
        for steps, turns in ((100, 2), (100, 3), (150, 4), (200, 6), (700, 8))
    )
    return LanguageModelRecipe(
        name="llm",
        stages=(
            CausalTextStage(steps=160, batch_size=256, optimizer=optimizer, checkpoint_every=None),
            CausalDialoguesStage(**steps_of(*phases), batch_size=64, optimizer=optimizer, evaluate_every=300),
        ),
    )

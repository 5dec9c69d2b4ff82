"""The recipe `upcycled`: a pretrained chat model learns which tokens of a conversation to keep, and to read them."""

from pathlib import Path
from typing import ClassVar, get_args

from transformers import PreTrainedTokenizerFast

from rxlm.config import config, require, require_choice, require_int
from rxlm.data.fields import BadRecords
from rxlm.data.tokenizer import load_tokenizer_from_file
from rxlm.export.saving import is_exported
from rxlm.folders import is_saved
from rxlm.memory.retained.gate import Granularity, RetentionGateConfig
from rxlm.recipes.feedback import preference_stages
from rxlm.recipes.own_conversations import OwnConversations
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import RxTRun
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.run_folder import START
from rxlm.recipes.stages import RetentionStage, steps_of
from rxlm.recipes.upcycled_corpus import UpcycledCorpus
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.hub import CheckpointFiles, split_header
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed
from rxlm.training.config import OptimizerConfig
from rxlm.training.retention.config import RetentionConfig
from rxlm.upcycling.loading import kind_of
from rxlm.upcycling.model import upcycle, with_gates, without_weights


@config
class UpcycledRecipe(Recipe):
    """A run that teaches a pretrained chat model what to keep of a conversation.

    Fields:
        model: the language model: folder, hub id or GGUF file; or the folder of a model that is upcycled already, by
            `rxlm upcycle` or an earlier run.
        memory_tokens, system: see `upcycle`; for a language model only.
        max_seq_len: longest turn in tokens, in training and later.
        granularity: what has a retention score of its own, see `RetentionGateConfig`; None: what it is in the model, or
            each "head" where it has no gates yet.
        data: folder with what is mixed in: `sgd`, `casino`, `persuasion`, `self-dialogues`, `fairytaleqa`, `qmsum`,
            `gutenberg-children`, those that are there; None: generated dialogues only.
        conversations: the user's own: files, folders, patterns or ids of hub datasets, see
            `rxlm.data.dialogue_forms.read_conversations`. A tenth is held out (of
            few more), by a hash of the id or the words.
        bad_records: what is done about one of their records that cannot be read: "stop", or "skip" it.
        mix: what is learnt and asked, see `UpcycledMix`.
    """

    model: str | None = None
    memory_tokens: int = 128
    max_seq_len: int = 1024
    system: str | None = None
    granularity: Granularity | None = None
    data: str | None = None
    conversations: tuple[str, ...] = ()
    bad_records: BadRecords = "stop"
    mix: UpcycledMix = UpcycledMix()
    draws_turns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "memory_tokens", "max_seq_len")
        require_choice(self, "granularity", (None, *get_args(Granularity)))
        require_choice(self, "bad_records", get_args(BadRecords))
        require(
            isinstance(self.conversations, tuple) and all(isinstance(path, str) for path in self.conversations),
            f"UpcycledRecipe.conversations must be a list of paths or hub ids, got {self.conversations!r}.",
        )

    @property
    def max_tokens(self) -> int:
        """Length of the longest interaction."""
        return self.max_seq_len

    def model_of_shape(self) -> RxTAlpha:
        """Return a model of this size."""
        model, gates = self.needed_model(), RetentionGateConfig(granularity=self.granularity or "head")
        if kind_of(model) == "rxt":
            _, values = split_header(CheckpointFiles(model).config(), model)
            return RxTAlpha.from_config_dict(values)
        return without_weights(model, memory_tokens=self.memory_tokens, max_seq_len=self.max_seq_len, gates=gates)

    def needed_model(self) -> str:
        """Return the language model; `ConfigError` where none is named."""
        require(
            self.model is not None,
            "The recipe upcycled needs a language model: --model with a folder, a hub id or a GGUF file.",
        )
        assert self.model is not None
        return self.model

    def open_corpus(self) -> UpcycledCorpus:
        """Read the data; raises where it is not there, and where the model cannot be trained."""
        model = self.needed_model()
        require(
            kind_of(model) == "transformers" or not is_exported(model),
            f"{model} was exported for an engine, which learns nothing: --model takes the model that it was made of.",
        )
        own = OwnConversations.open(self.conversations, self.bad_records) if self.conversations else None
        return UpcycledCorpus(self.data, self.mix, self.seed, own)


class UpcycledRun(RxTRun[UpcycledRecipe]):
    """A run of the recipe in a folder; raises as `TrainingRun` does.

    Besides what every run has, its folder holds `start/`, the model before training.
    """

    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the language model's tokenizer."""
        self._make_start()
        return load_tokenizer_from_file(self._start_folder)

    def token_ids(self) -> RxTAlphaTokenizerConfig:
        """Return the form of a turn that the chat template gives."""
        if distributed.rank() == 0:
            self._make_start()
        distributed.wait()
        return RxTAlphaTokenizerConfig(**CheckpointFiles(self._start_folder).config()["tokenizer_config"])

    def new_model(self) -> RxTAlpha:
        """Return the model before training, whose layers have gates."""
        return self.load_model(self._start_folder)

    @property
    def _start_folder(self) -> Path:
        return self.folder / START

    def _make_start(self) -> None:
        """Make the model before training, where it is not there; for one process."""
        recipe, model = self.recipe, self.recipe.needed_model()
        if is_saved(self._start_folder, "config.json"):
            return
        if kind_of(model) == "rxt":
            made = RxTAlpha.from_pretrained(model)
        else:
            made = upcycle(
                model,
                memory_tokens=recipe.memory_tokens,
                max_seq_len=recipe.max_seq_len,
                system=recipe.system,
            )
        gates = None if recipe.granularity is None else RetentionGateConfig(granularity=recipe.granularity)
        gated = with_gates(made, gates, seed=recipe.seed)
        self.keep_recipe()
        gated.save_pretrained(self._start_folder)


def upcycled() -> UpcycledRecipe:
    """For a chat model of some hundred million parameters; two cores with AMX take two hours."""
    stage = RetentionStage(
        **steps_of(
            DialoguePhase(steps=60, num_turns=5),
            DialoguePhase(steps=580, num_turns=32, fewest_turns=8),
        ),
        batch_size=8,
        accumulation=1,
        optimizer=OptimizerConfig(
            learning_rate=1e-4,
            memory_scale=40.0,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            schedule="wsd",
            warmup_steps=20,
            decay_share=0.35,
        ),
        precision="auto",
        log_every=1,
        checkpoint_every=20,
        evaluate_every=100,
        keep_last=1,
        settings=RetentionConfig(
            sizes=(64, 128, 128, 256),
            cooling_steps=420,
            learned_share=0.67,
            longest_dialogue=896,
            keep=5.0,
            keep_tokens=1024,
        ),
    )
    later = preference_stages(40, 4, 2e-5, chosen_weight=1.0, learned_share=0.67)
    return UpcycledRecipe(name="upcycled", stages=(stage, *later))


def upcycled_gpu() -> UpcycledRecipe:
    """For a GPU: longer dialogues and ten times as many of them; an H200 takes some minutes."""
    phases = (
        DialoguePhase(steps=60, num_turns=5, batch_size=64),
        DialoguePhase(steps=600, num_turns=64, fewest_turns=4),
    )
    recipe = upcycled()
    stage = recipe.stage("retention")
    assert isinstance(stage, RetentionStage)
    settings = stage.settings.replace(keep=8.0, keep_tokens=4096, longest_dialogue=2048)
    optimizer = stage.optimizer.replace(learning_rate=2e-4, warmup_steps=30)
    longer = stage.replace(
        **steps_of(*phases),
        batch_size=48,
        settings=settings,
        optimizer=optimizer,
        log_every=5,
        checkpoint_every=200,
        evaluate_every=200,
    )
    return recipe.replace(name="upcycled-gpu", stages=(longer, *recipe.stages[1:]))

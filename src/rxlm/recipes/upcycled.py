"""The recipe `upcycled`: a pretrained language model learns to read and write a memory.

At first the language model stays as it is; memory cross-attention and memory attention learn. Phases: *read*, answers
come from the encoded turns before; *write*, through slots, in longer and longer dialogues. Then its last *layers* learn
with them, more slowly, and kept to what they were: a language model's states were not made for telling whose value a
token is. The last phase is *streams*, in which facts are held for longer.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.config import config, require, require_choice, require_int, require_number
from rxlm.data.tokenizer import load_tokenizer_from_file
from rxlm.mrq_bench.loading import kind_of
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.own_replies import kept_replies, own_replies
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import RxTRun
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.stages import MemoryAwareStage, StageConfig, steps_of
from rxlm.recipes.upcycled_corpus import UpcycledCorpus
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.hub import CheckpointFiles
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.upcycling import ENCODERS, EncoderKind, reading_is_closed, set_reading, upcycle
from rxlm.training import distributed
from rxlm.training.config import OptimizerConfig
from rxlm.training.memory_aware import MemoryAwareConfig
from rxlm.training.trainer import Batches


@config
class UpcycledRecipe(Recipe):
    """A run that gives a pretrained language model a memory.

    Fields:
        model: the language model: folder, hub id or GGUF file; or the folder of a model that is upcycled already, by
            `rxlm upcycle` or an earlier run.
        memory_layers, num_slots, max_seq_len, encoder, system: see `upcycle`; for a language model only.
        reading: how strongly memory is read at first, relative to what self-attention writes; see `set_reading`.
        data: folder with `sgd` and `fairytaleqa`, which are mixed in; None: generated dialogues only.
        mix: what is learnt and asked, see `UpcycledMix`.
    """

    model: str | None = None
    memory_layers: tuple[int, ...] | None = None
    num_slots: int = 128
    max_seq_len: int = 192
    encoder: EncoderKind = "self"
    system: str | None = None
    reading: float = 0.5
    data: str | None = None
    mix: UpcycledMix = UpcycledMix()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "num_slots", "max_seq_len")
        require_number(self, "reading")
        require_choice(self, "encoder", ENCODERS)
        for stage in self.stages:
            require(
                not isinstance(stage, MemoryAwareStage) or stage.settings.pretrained,
                f"{stage.id}.settings.pretrained must be true: the language model's weights are to stay.",
            )

    @property
    def max_tokens(self) -> int:
        """Length of the longest interaction."""
        return self.max_seq_len

    def open_corpus(self) -> UpcycledCorpus:
        """Read the data; raises where it is not there."""
        require(
            self.model is not None,
            "The recipe upcycled needs a language model: --model with a folder, a hub id or a GGUF file.",
        )
        return UpcycledCorpus(self.data, self.mix, self.seed)


class UpcycledRun(RxTRun[UpcycledRecipe]):
    """A run of the recipe in a folder; raises as `TrainingRun` does.

    Besides what every run has, its folder holds `start/`, the model before training, and `replies.json`.
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
        """Return the language model with its memory, opened where nothing has been taught yet."""
        model = self._start()
        if reading_is_closed(model):
            set_reading(model, self.recipe.reading)
        return model

    def batches(self, stage: StageConfig, module: Any) -> Batches:
        """Return the batches of a stage; the language model's own replies are made first."""
        self._reply(self.maker(stage))
        return super().batches(stage, module)

    def _reply(self, make: BatchMaker) -> None:
        """Let the language model reply to general questions and to what some conversations begin with."""
        if self.corpus.replies:
            return
        queries, path = self.corpus.reply_queries(make), self.folder / "replies.json"
        if distributed.rank() == 0 and not kept_replies(path).keys() >= set(queries):
            own_replies(self._start().to(self.device).eval(), queries, self.recipe.mix.reply_tokens, path)
        distributed.wait()
        self.corpus.replies = kept_replies(path)

    @property
    def _start_folder(self) -> Path:
        return self.folder / "start"

    def _start(self) -> RxTAlpha:
        """Return the model before training."""
        return RxTAlpha.from_pretrained(self._start_folder).train()

    def _make_start(self) -> None:
        """Make the model before training, where it is not there; for one process."""
        recipe = self.recipe
        if (self._start_folder / "config.json").is_file():
            return
        assert recipe.model is not None
        if kind_of(recipe.model) == "rxt":
            made = RxTAlpha.from_pretrained(recipe.model)
        else:
            torch.manual_seed(recipe.seed)
            made = upcycle(
                recipe.model,
                memory_layers=recipe.memory_layers,
                num_slots=recipe.num_slots,
                max_seq_len=recipe.max_seq_len,
                encoder=recipe.encoder,
                system=recipe.system,
            )
        made.save_pretrained(self._start_folder)


def upcycled() -> UpcycledRecipe:
    """For a language model of some hundred million parameters; two cores take two hours, under torchrun."""
    optimizer = OptimizerConfig(
        learning_rate=1.5e-3, weight_decay=0.0, schedule="wsd", warmup_steps=20, decay_share=0.25
    )
    settings = MemoryAwareConfig(
        pretrained=True, unroll=16, answer_share=0.1, wording_share=0.5, keep=0.5, keep_share=0.35
    )
    read = DialoguePhase(steps=30, num_turns=2, batch_size=24)
    dialogues = MemoryAwareStage(
        **steps_of(
            read,
            DialoguePhase(steps=30, num_turns=2, batch_size=24),
            DialoguePhase(steps=40, num_turns=4, batch_size=12),
            DialoguePhase(steps=80, num_turns=9),
        ),
        batch_size=8,
        optimizer=optimizer,
        evaluate_every=250,
        checkpoint_every=50,
        keep_last=1,
        settings=settings.replace(read_encoded_until=read.steps),
    )
    layers = dialogues.replace(
        folder="4b-layers",
        **steps_of(
            DialoguePhase(steps=180, num_turns=9),
            DialoguePhase(steps=44, num_turns=8, streams=True, reset_probability=0.35),
        ),
        optimizer=optimizer.replace(learning_rate=1.2e-3, decoder_scale=0.15, warmup_steps=10, decay_share=0.7),
        seed=1,
        settings=settings.replace(learned_share=0.66, keep=1.0, keep_share=0.25),
    )
    return UpcycledRecipe(name="upcycled", stages=(dialogues, layers))

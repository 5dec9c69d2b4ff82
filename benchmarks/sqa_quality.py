"""Quality and speed of language models that differ in their attention alone: MHA, GQA, MQA and the SQA family.

    python benchmarks/sqa_quality.py ../shared/data

trains one model a kind on the books and stories of the recipe `stories`, all with the same seed, texts and number of
steps, and prints the loss on held-out sequences and the training time a step. The authors' model cards say of their
own runs: SQA about as good as GQA and better than MQA. The figures go to the output folder; started again, it
goes on from where it was.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from records import RESULTS, Record
from rxlm.data.packing import Packed, PackedBatch, TextPacker
from rxlm.data.samplers import ShuffledBatches
from rxlm.data.tokenizer import load_tokenizer_from_file, train_tokenizer
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM
from rxlm.recipes import stories
from rxlm.recipes.stories import StoriesCorpus
from rxlm.rxt.text import token_ids_of
from rxlm.training.causal_lm import CausalLanguageModelling
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train.

    Args:
        data: folder of the recipe `stories`.
        variants: kinds of attention.
        dim, num_layers, num_heads, ff_dim: the paper's small dense shape.
        vocab_size, tokens: of the tokenizer, and of a sequence.
        steps, batch_size, learning_rate: of each model.
        held_out: sequences that are not trained on.
        seed: of weights and of the order of sequences.
        output: folder of the runs and the table.
    """

    data: Annotated[Path, tyro.conf.Positional]
    variants: tuple[str, ...] = ("mha", "gqa", "mqa", "sqa", "ssqa", "xsqa")
    dim: int = 256
    num_layers: int = 8
    num_heads: int = 16
    ff_dim: int = 512
    vocab_size: int = 4096
    tokens: int = 256
    steps: int = 250
    batch_size: int = 8
    learning_rate: float = 1e-3
    held_out: int = 64
    seed: int = 0
    output: Path = RESULTS / "sqa_quality"


class Texts:
    """Packed sequences to train on, and held-out ones."""

    def __init__(self, settings: Settings) -> None:
        documents = StoriesCorpus(stories().override([f"data={settings.data}"])).documents
        folder = settings.output / "tokenizer"
        if not folder.is_dir():
            train_tokenizer(documents, settings.vocab_size).save_pretrained(folder)
        self.tokenizer = load_tokenizer_from_file(folder)
        self.packer = TextPacker(self.tokenizer, token_ids_of(self.tokenizer), seq_len=settings.tokens)
        sequences: list[Packed] = list(self.packer.pack(documents))
        order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(settings.seed)).tolist()
        shuffled = [sequences[number] for number in order]
        self.held_out, self.training = shuffled[: settings.held_out], shuffled[settings.held_out :]

    def batches_of_held_out(self, size: int) -> Iterator[PackedBatch]:
        for start in range(0, len(self.held_out), size):
            yield self.packer.batch(self.held_out[start : start + size])


def model_of(settings: Settings, variant: str, vocab_size: int) -> DecoderLMForCausalLM:
    torch.manual_seed(settings.seed)
    return DecoderLMForCausalLM(
        DecoderLMConfig(
            vocab_size=vocab_size,
            hidden_size=settings.dim,
            intermediate_size=settings.ff_dim,
            num_hidden_layers=settings.num_layers,
            num_attention_heads=settings.num_heads,
            attention=variant,
            max_position_embeddings=settings.tokens,
        )
    )


@torch.no_grad()
def held_out_loss(module: CausalLanguageModelling, texts: Texts, size: int) -> dict[str, float]:
    """Return loss (nats a token) and accuracy on the held-out sequences."""
    batches = [module.prepare(batch, torch.Generator()) for batch in texts.batches_of_held_out(size)]
    total = {"answer": sum(module.counts(batch)["answer"] for batch in batches)}
    figures = [module(batch, total).figures for batch in batches]
    names = {"loss": "answer_loss", "accuracy": "token_accuracy"}
    return {name: sum(float(part[key]) for part in figures) for name, key in names.items()}


def train(settings: Settings, variant: str, texts: Texts) -> dict[str, float | str]:
    """Train one model and return its figures."""
    folder = settings.output / variant
    model = model_of(settings, variant, len(texts.tokenizer))
    module = CausalLanguageModelling(model)
    batches = ShuffledBatches(texts.training, texts.packer.batch, batch_size=settings.batch_size, seed=settings.seed)
    config = TrainingConfig(
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimizer=OptimizerConfig(learning_rate=settings.learning_rate, warmup_steps=settings.steps // 20),
        log_every=min(10, settings.steps),
        checkpoint_every=50,
        seed=settings.seed,
    )
    Trainer(variant, module, batches, config, folder).run()
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "variant": variant,
        "parameters": model.num_parameters(),
        **held_out_loss(module.eval(), texts, settings.batch_size),
        "seconds_per_step": median(json.loads(line)["seconds_per_step"] for line in lines),
    }


def main(settings: Settings) -> None:
    """Train, and print a table."""
    texts, console = Texts(settings), Console()
    record = Record(settings.output / "sqa_quality.json", settings)
    results = [record.keep(variant, partial(train, settings, variant, texts)) for variant in settings.variants]
    order = sorted(range(len(results)), key=lambda number: float(results[number]["loss"]))
    table = Table("attention", "parameters", "loss", "accuracy", "rank", "ms a step")
    for number, figures in enumerate(results):
        table.add_row(
            str(figures["variant"]),
            f"{figures['parameters']:,}",
            f"{figures['loss']:.4f}",
            f"{figures['accuracy']:.2%}",
            str(order.index(number) + 1),
            f"{1000 * float(figures['seconds_per_step']):.0f}",
        )
        record.add(f"{figures['variant']}/loss", figures["loss"], "nats a token", better="less", kind="ratio")
        record.add(f"{figures['variant']}/a step", figures["seconds_per_step"], "s", better="less")
    record.save()
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

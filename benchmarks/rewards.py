"""What the default reward costs: its share of a step of memory reinforcement learning.

    OMP_NUM_THREADS=1 python benchmarks/rewards.py --preset tiny

times a turn of dialogues with random weights, part by part, in processor time: generation of the answers with the cache
(sampled, all of full length) and the memory update after it, the reward, and the update: the reference policy, forward;
the policy under this turn's memory and the last one's (policy consistency), forward and backward. A real step has a
critic besides, and the reward a smaller share.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from records import RESULTS, Record
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.tokenizer import encode_text, train_tokenizer
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import preset_config
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig
from rxlm.training.mrl.composite import composite_reward
from rxlm.training.mrl.rewards import TurnAnswers


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        preset: size of the model.
        dialogues: in the batch.
        turn_tokens: of a turn; half of them are its answer.
        repeats: of each part; the least time counts.
        output: folder for the figures.
    """

    preset: Literal["tiny", "nano", "micro", "mini", "alpha"] = "tiny"
    dialogues: int = 64
    turn_tokens: int = 256
    repeats: int = 3
    output: Path = RESULTS


def model_and_tokenizer(settings: Settings) -> tuple[RxTAlpha, PreTrainedTokenizerFast, list[int]]:
    """Return a model, a tokenizer for it, and many tokens of the generator's dialogues."""
    torch.manual_seed(0)
    texts = list(texts_of(FactGenerator(FactsConfig(variety="full")).dialogues(2000)))
    tokenizer = train_tokenizer(texts, 1024)
    config = preset_config(settings.preset, tokenizer)
    for part in ("decoder_config", "encoder_config", "memory_attention_config"):
        config[part] = config[part].replace(max_seq_len=settings.turn_tokens)
    model = RxTAlpha(**config, tokenizer=tokenizer)
    return model, tokenizer, encode_text(tokenizer, " ".join(texts))


def turn_of(settings: Settings, tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> TurnAnswers:
    """Return a second turn whose texts have half of `turn_tokens` each."""
    half = settings.turn_tokens // 2
    texts = [tokenizer.decode(tokens[start : start + half]) for start in range(0, 5 * settings.dialogues * half, half)]
    queries, answers, references, *before = (texts[part::5] for part in range(5))
    ids = [[encode_text(tokenizer, text) for text in rows] for rows in (answers, references)]
    history = [[pair] for pair in zip(*before, strict=True)]
    return TurnAnswers(1, queries, answers, references, *ids, [None] * len(queries), history)


def parts(settings: Settings) -> dict[str, Callable[[], Any]]:
    """Return what a turn consists of."""
    model, tokenizer, tokens = model_and_tokenizer(settings)
    shape, half = (settings.dialogues, settings.turn_tokens), settings.turn_tokens // 2
    ids = torch.randint(10, len(tokenizer), shape)
    mask = torch.ones(shape, dtype=torch.bool)
    memory = model.init_memory(settings.dialogues)
    turn = turn_of(settings, tokenizer, tokens)

    @torch.no_grad()
    def generation() -> None:
        model.eval()
        prompt = Prompt(ids[:, :half], [half] * settings.dialogues)
        list(islice(model.generate(prompt, memory, sampling=SamplingConfig(), ignore_eos=True), half))
        model.update_memory(memory, ids, mask)

    def reward() -> None:
        composite_reward(model)(turn)  # anew, so that no text is known from the last time

    def update() -> None:
        with torch.no_grad():
            model.decode(ids, model.update_memory(memory, ids, mask))
        model.train()
        for state in (model.update_memory(memory, ids, mask), memory):
            model.decode(ids, state).float().log_softmax(-1).gather(-1, ids[..., None]).mean().backward()
        model.zero_grad()

    return {"generation": generation, "reward": reward, "update": update}


def main(settings: Settings) -> None:
    """Measure and print."""
    seconds, record = {}, Record(settings.output / f"rewards-{settings.preset}.json", settings)
    for name, part in parts(settings).items():
        times = []
        for _ in range(settings.repeats):
            started = time.process_time()
            part()
            times.append(time.process_time() - started)
        seconds[name] = min(times)
        record.add(name, times, "s of processor time", better="less")
    total = sum(seconds.values())
    record.add("the reward's share", seconds["reward"] / total, "", better="less", kind="ratio")
    record.save()
    table = Table(
        "part", "ms", "share", title=f"{settings.preset}, {settings.dialogues} x {settings.turn_tokens} tokens"
    )
    for name, spent in seconds.items():
        table.add_row(name, f"{1e3 * spent:,.0f}", f"{spent / total:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

"""Memory reinforcement learning from a half-trained model: IMPO beside PPO and GRPO, over seeds.

    rxlm train tiny dialogues --output runs/half --dialogues.steps 380 --streams null --stream-phases '[]' \\
        --phases '[{"steps":100,"num_turns":2},{"steps":100,"num_turns":3},{"steps":150,"num_turns":4},
                   {"steps":30,"num_turns":6}]' --evaluation-turns 8 --evaluation-dialogues 200
    python benchmarks/reinforcement.py runs/half

trains stage 5 of the recipe of that run from its model, once for each algorithm and seed, all for the same number of
steps on as many episodes, and prints how the first figure of the recipe's evaluation (exact recall on held-out
dialogues) and the perplexity of held-out reference answers changed, and where the time went. A plot and the figures
go to the output folder; each run is a folder that `rxlm report` and `rxlm chat` take. Started again, it goes on
from where it was. The log of 2026-11-25 has a start for bAbI's task 1.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from plots import plot_curves
from records import RESULTS, Record
from rxlm.recipes import RECIPES
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.run_folder import RECIPE_FILE
from rxlm.recipes.stages import steps_of
from rxlm.rxt.models import RxTAlpha
from rxlm.training.mrl.config import MRLConfig

GROUP = 8
TIMES = ("generation", "reward")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train.

    Args:
        start: folder of a run whose stage 4 is done.
        algorithms: impo, ppo, grpo.
        seeds: of episodes and answers; the model they start from is the same.
        steps: of each run.
        learning_rate: of the policy, for all algorithms; the recipe's own if not given.
        evaluate_every: steps.
        output: folder of the runs, the plot and the figures.
    """

    start: Annotated[Path, tyro.conf.Positional]
    algorithms: tuple[str, ...] = ("impo", "ppo", "grpo")
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 200
    learning_rate: float | None = None
    evaluate_every: int = 20
    output: Path = RESULTS / "reinforcement"


def recipe_of(settings: Settings, algorithm: Any, seed: int) -> Recipe:
    """Return the recipe of the run that is started from, with stage 5 for that algorithm and seed."""
    values = json.loads((settings.start / RECIPE_FILE).read_text(encoding="utf-8"))
    recipe = RECIPES[values["name"]]().from_dict(values)
    stage = recipe.stage("mrl")
    rate = settings.learning_rate or stage.optimizer.learning_rate
    kept = ("plays", "told_weight", "max_answer_tokens", "updates_per_rollout", "warmup_turns")
    common = {name: getattr(stage.settings, name) for name in kept}
    critic = {"critic_warmup": stage.settings.critic_warmup} if algorithm != "grpo" else {"group_size": GROUP}
    return recipe.with_stage(
        "mrl",
        **steps_of(stage.phases[0].replace(steps=settings.steps)),
        seed=seed,
        evaluate_every=settings.evaluate_every,
        checkpoint_every=settings.evaluate_every,
        optimizer=stage.optimizer.replace(learning_rate=rate),
        settings=MRLConfig.of(algorithm, **common, **critic),
    )


def train(settings: Settings, record: Record, algorithm: str, seed: int) -> dict[str, Any]:
    """Train one run, and return its evaluations and the share of its time that each part took."""
    folder = settings.output / f"{algorithm}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer").is_dir():
        shutil.copytree(settings.start / "tokenizer", folder / "tokenizer")
    run = ReactiveRun(recipe_of(settings, algorithm, seed), folder)
    stage = run.recipe.stage("mrl")
    model = RxTAlpha.from_pretrained(settings.start / "4-dialogues" / "model")
    before = record.keep(f"before/{algorithm}-{seed}", lambda: dict(run.corpus.evaluate(model)))
    run.train_stage(stage, model).save_pretrained(folder)
    lines = (folder / stage.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line) for line in lines]
    first = f"evaluation/{next(iter(before))}"
    evaluations = [{"step": 0, **{f"evaluation/{name}": value for name, value in before.items()}}]
    evaluations += [figures for figures in logged if first in figures]
    steps = [figures for figures in logged if "seconds_per_step" in figures]
    whole = fmean(figures["seconds_per_step"] for figures in steps)
    shares = {name: fmean(figures[f"time/{name}"] for figures in steps) / whole for name in TIMES}
    return {
        "algorithm": algorithm,
        "seed": seed,
        "curve": [(each["step"], each[first], each["evaluation/perplexity"]) for each in evaluations],
        "rewards": [(figures["step"], figures["reward"]) for figures in steps],
        "seconds_per_step": whole,
        "shares": shares | {"update": 1 - sum(shares.values())},
    }


def main(settings: Settings) -> None:
    """Train, print and draw."""
    console = Console()
    record, results = Record(settings.output / "reinforcement.json", settings), []
    for seed in settings.seeds:
        for algorithm in settings.algorithms:
            results.append(train(settings, record, algorithm, seed))
            console.print(_table(results))
            add_figures(record, results[-1])
            record.save()
            plot_curves(results, settings.output / "curves.png")
    console.print(f"Figures and plot: {record.path}, {settings.output / 'curves.png'}")


def add_figures(record: Record, result: dict[str, Any]) -> None:
    """Add what a run has changed."""
    name = f"{result['algorithm']}/seed {result['seed']}"
    for figure, values, better in (
        ("recall", [share for _, share, _ in result["curve"]], "more"),
        ("perplexity", [perplexity for _, _, perplexity in result["curve"]], "less"),
    ):
        for place, value in (("before", values[0]), ("after", values[-1])):
            record.add(f"{name}/{figure} {place}", value, "", better=better, kind="ratio")
    record.add(f"{name}/a step", result["seconds_per_step"], "s", better="less")


def _table(results: list[dict[str, Any]]) -> Table:
    columns = ("recall before", "after", "best", "perplexity before", "after", "reward first", "last", "s a step")
    table = Table("algorithm", "seed", *columns, *(f"{name} %" for name in results[0]["shares"]))
    for result in results:
        curve, rewards = result["curve"], [reward for _, reward in result["rewards"]]
        part = max(1, len(rewards) // 5)
        table.add_row(
            result["algorithm"],
            str(result["seed"]),
            *(f"{share:.1%}" for share in (curve[0][1], curve[-1][1], max(share for _, share, _ in curve))),
            *(f"{perplexity:.3f}" for perplexity in (curve[0][2], curve[-1][2])),
            *(f"{fmean(some):.2f}" for some in (rewards[:part], rewards[-part:])),
            f"{result['seconds_per_step']:.2f}",
            *(f"{share:.1%}" for share in result["shares"].values()),
        )
    return table


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))

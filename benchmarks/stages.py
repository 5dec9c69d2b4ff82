"""Do stages 1 to 3 matter? The recipe `tiny` up to stage 4, with and without them: recall by step, and at the end.

    python benchmarks/stages.py --output runs/stages

trains three models (some five minutes each on two cores; started again it goes on), prints a table and draws
`stages.png` in the output folder. All variants take the same steps in stage 4; those that leave stages out are cheaper.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from records import Record
from rxlm.recipes.facts import FactsCorpus, tiny
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.reporting.plots import line_plot, new_figure, save_png

VARIANTS: dict[str, tuple[str, ...]] = {
    "all stages": (),
    "without stage 3": ("memory_attention",),
    "without stages 1 to 3": ("language", "interactions", "memory_attention"),
}
TEST = {8: 500, 32: 100}
"""Turns of the test dialogues, and how many of each are asked."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/stages"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    record = Record(arguments.output / f"stages-seed-{arguments.seed}.json", arguments)
    figure, axes = new_figure()
    print(f"{'':24}" + "".join(f"{f'recall, {turns} turns':>18}" for turns in TEST))
    for name, left_out in VARIANTS.items():
        folder = arguments.output / f"{name.replace(' ', '-')}-seed-{arguments.seed}"
        recipe = tiny().without_stages(*left_out).replace(seed=arguments.seed)
        recipe = recipe.with_stage("dialogues", evaluate_every=100)
        run = ReactiveRun(recipe, folder)
        model = run.train("dialogues")
        steps, recall = evaluations(folder / "4-dialogues" / "metrics.jsonl")
        line_plot(axes, steps, recall, name)
        assert isinstance(run.corpus, FactsCorpus)
        measured = {turns: mean(run.corpus.retention(model, turns, count)) for turns, count in TEST.items()}
        print(f"{name:24}" + "".join(f"{share:18.1%}" for share in measured.values()))
        for turns, share in measured.items():
            record.add(f"{name}/recall, {turns} turns", share, "", better="more", kind="ratio")
    record.save()
    axes.set_xlabel("step of stage 4")
    axes.set_ylabel("exact recall, dialogues of 32 turns")
    axes.set_ylim(0, 1)
    save_png(figure, arguments.output / "stages.png")
    print(f"\n{arguments.output / 'stages.png'}")


def evaluations(path: Path) -> tuple[list[int], list[float]]:
    """Return steps and recall of a stage's evaluations."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {line["step"]: line["evaluation/recall"] for line in lines if "evaluation/recall" in line}
    return list(found), list(found.values())


def mean(figures: Mapping[str, tuple[float, int]]) -> float:
    """Return accuracy over all questions."""
    return sum(share * count for share, count in figures.values()) / sum(count for _, count in figures.values())


if __name__ == "__main__":
    main()

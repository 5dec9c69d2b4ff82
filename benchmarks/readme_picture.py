"""The picture of README.md: what a turn costs and what is recalled, beside a stateless model.

    python benchmarks/readme_picture.py docs/cost-and-recall.png

draws figures that were measured before and stand in dev/LOG.md; it measures nothing itself.
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("Agg")

# 2026-11-24, "a Reactive Transformer beside a stateless model, on the generator's dialogues": the same tokenizer,
# dialogues, steps and seed, and about as many operations a turn.
TURNS = ("turn 1", "turn 64")
COSTS = {
    "milliseconds to the first token": {"stateless": (2.59, 71.8), "reactive": (1.35, 1.27)},
    "kilobytes kept for the conversation": {"stateless": (31.5, 1440.0), "reactive": (16.4, 16.4)},
}
# Exact answers in %, by the distance in turns between a fact and its question, in dialogues of 64 turns (of 32 for the
# stateless model that was trained on 8). The Reactive Transformer: 2026-11-23, "the quickstart, as a user runs it".
DISTANCES = ("1-4", "5-7", "8-16", "17-32", "33-64")
RECALL = {
    "Reactive Transformer, 8 turns a training step": (100.0, 100.0, 100.0, 100.0, 100.0),
    "stateless, trained on up to 32 turns": (89.2, 89.4, 89.1, 63.0, 32.5),
    "stateless, trained on up to 8 turns": (71.1, 51.0, 37.5, 9.7),
}
COLOURS = {"reactive": "#1b6ca8", "stateless": "#c8553d"}


def draw(path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=(1, 1, 1.6), constrained_layout=True)
    for axis, (title, costs) in zip(axes, COSTS.items(), strict=False):
        for number, (model, values) in enumerate(costs.items()):
            bars = axis.bar(
                [turn + 0.4 * number for turn in range(len(TURNS))], values, width=0.38, color=COLOURS[model]
            )
            axis.bar_label(bars, fmt="{:,.4g}", padding=2)
        axis.set_xticks([turn + 0.2 for turn in range(len(TURNS))], TURNS)
        axis.set_title(title)
        axis.margins(y=0.12)
    axis = axes[-1]
    for (label, values), style in zip(RECALL.items(), ("o-", "s-", "s--"), strict=True):
        colour = COLOURS["reactive" if label.startswith("Reactive") else "stateless"]
        axis.plot(DISTANCES[: len(values)], values, style, color=colour, linewidth=2.5, label=label)
    axis.set_ylim(-4, 108)
    axis.set_title("right answers, %")
    axis.set_xlabel("turns between a fact and its question")
    axis.legend(frameon=False, loc="lower left", fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.3, axis="y")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

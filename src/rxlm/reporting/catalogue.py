"""The catalogue of charts: which figures of a log belong together, and how to read them."""

import re
from dataclasses import dataclass
from typing import Literal

from rxlm.reporting.runs import Series

HIDDEN = ("seconds_per_step", "seconds_left")
"""Figures for the progress line; the speed is drawn from its own."""
NAMES = {
    "loss": "total loss",
    "answer_loss_empty": "answer loss, empty memory",
    "gradient_norm": "all parameters",
}


@dataclass(frozen=True)
class Chart:
    """Figures of one kind.

    Fields:
        file: name of its PNG file, without the ending.
        title: its heading.
        pattern: regular expression that the whole name of a figure matches.
        unit: what the vertical axis shows.
        caption: what is normal, and what is wrong.
        scale: of the vertical axis: "log" is logarithmic where values span more than a decade, "share" goes from 0 to 1
            where values do, "zero" begins at 0, and "free" fits the values.
        smooth: whether long lines are smoothed.
        split: whether figures of different ranges or families get axes of their own.
    """

    file: str
    title: str
    pattern: str
    unit: str
    caption: str
    scale: Literal["log", "share", "zero", "free"] = "free"
    smooth: bool = True
    split: bool = False

    def family(self, name: str) -> tuple[str, ...]:
        """Return the family of a figure in words, where the chart has figures of several; `reward/bleu` is a reward."""
        family = name.removeprefix("evaluation/").rpartition("/")[0]
        return (family.replace("_", " "),) if family and self.split else ()

    def group(self, name: str, series: Series) -> str:
        """Return which axes of the chart a figure goes to, in words."""
        if not self.split:
            return ""
        if family := self.family(name):
            return family[0]
        is_share = all(0 <= value <= 1 for value in series.values)
        return "shares" if is_share else name.removeprefix("evaluation/").replace("_", " ")


CHARTS = (
    Chart(
        "losses",
        "Losses",
        r"(evaluation/)?(loss|(answer|masked)_loss(_\w+)?)",
        "loss",
        "Cross-entropy in nats a token; in stage 3 minus the cosine similarity. Pale: as logged; bold: smoothed. "
        "Right: a steep fall, then a slow one, with a step up where "
        "dialogues get longer (dotted vertical lines). In stages 1 and 2 the decoder may copy from the encoder's "
        "output, so that the answer loss nears zero: the loss with an empty memory says how well it knows the "
        "language. In stage 4 the loss with an empty memory must end clearly above the answer loss. Wrong: "
        "both are the same (the memory is not read), a loss that rises for long (learning rate too high), or one that "
        "never falls.",
        scale="log",
    ),
    Chart(
        "accuracy",
        "Token accuracy and similarity",
        r"\w*(accuracy|similarity)\w*",
        "share, or cosine",
        "Share of the counted tokens that the model would have chosen, in training; in stage 3 the cosine similarity "
        "of the new memory with its target. Right: up, and in stages 1 and 2 to about 0.95, since tokens may be "
        "copied; in stage 4 it goes on rising after the first plateau, when the model begins to read its memory. "
        "Wrong: stage 4 ends on that first plateau, where values are guessed.",
        scale="share",
    ),
    Chart(
        "preferences",
        "Preferences",
        r"rewards/(chosen|rejected|margins|accuracies)|logps/.+|chosen_loss",
        "share, reward or nats",
        "Stage 6: implicit rewards of better and other answers, and how often the better one has more, or the scores "
        "of a reward model; log-probabilities of both, and the loss of the better ones a token. Right: accuracies and "
        "margins rise, and the better answers' log-probability stays or rises. Wrong: both log-probabilities fall "
        "(raise chosen_weight or beta); accuracies near 1 within few steps (the pairs are learnt by heart, or differ "
        "in something cheap, such as length).",
        split=True,
    ),
    Chart(
        "rewards",
        "Rewards",
        r"reward|rewards/.+",
        "reward",
        "What answers earn in reinforcement learning: the total, from 0 to 10 by default, and mean and standard "
        "deviation of each reward by name, before weights. Right: the total and the exact reward rise together. Wrong: "
        "the total rises by BLEU, cosines or length alone while the exact reward stays (the cheap rewards are gamed); "
        "a standard deviation near zero (nothing to learn from).",
        split=True,
    ),
    Chart(
        "policy_shares",
        "Shares of clipped ratios, of answers cut off, and of groups of one reward",
        r"clip_ratio/.+|completions/clipped_ratio|frac_reward_zero_std",
        "share",
        "Right: few ratios are clipped (below about 0.2), few answers reach their longest length, and the rewards of "
        "most groups differ. Wrong: most ratios are clipped (learning rate too high, or too many updates of one "
        "rollout); answers cut off more and more often; groups of one reward near 1 (nothing to learn from).",
        scale="share",
    ),
    Chart(
        "policy_change",
        "Changes of policy and memory",
        r"kl|policy_consistency|memory_change",
        "nats, or change",
        "How far the policy has gone from the reference policy (kl), how much it differs from one turn to the next, "
        "and how far the memory moves. Right: kl rises slowly and levels off. Wrong: kl rises fast (the language is "
        "lost: read the trajectories), or stays at zero (nothing is learnt).",
        scale="log",
    ),
    Chart(
        "entropy",
        "Entropy",
        r"entropy",
        "nats a token",
        "Entropy of the policy's next-token distribution in its answers. Right: a slow fall. Wrong: to zero within few "
        "steps (it tries nothing else any more), or a rise without end (its answers become noise).",
        scale="zero",
    ),
    Chart(
        "critic",
        "Critic",
        r"value_loss|explained_variance",
        "value",
        "Right: the loss falls and the explained variance rises above zero, towards 1. Wrong: an explained variance "
        "below zero for long (the critic is worse than a constant, and makes the advantages noisier).",
        split=True,
    ),
    Chart(
        "lengths",
        "Lengths of answers",
        r"completions/\w+_length",
        "tokens",
        "Right: near the lengths of the references. Wrong: a drift in one direction while the exact reward stays.",
        scale="zero",
    ),
    Chart(
        "evaluation",
        "Evaluation",
        r"evaluation/.*",
        "value",
        "Figures on data that training does not see. Right: they follow those of training. Wrong: they turn back while "
        "the losses of training still fall (the data are learnt by heart).",
        scale="share",
        split=True,
    ),
    Chart(
        "gradients",
        "Gradient norms",
        r"gradient_norm(/.*)?",
        "norm before clipping",
        "Norm of the gradients, of all parameters and of each group of them. Right: large in the first steps, then "
        "steady or slowly falling, with single peaks. Wrong: in stage 4, memory or gates stay orders of magnitude "
        "below the body (nothing reaches them through the updates); norms that keep growing; norms above the clipping "
        "limit in most steps.",
        scale="log",
    ),
    Chart(
        "gates",
        "Gates",
        r"(\w+_)?gate/.*",
        "mean opening",
        "Mean opening of the gates by memory layer: 0 keeps the old slots, 1 replaces them by the update. Right: they "
        "leave their initial value and settle in between. Wrong: near 0 (nothing is written), near 1 (all is "
        "overwritten, and old facts are lost), or a straight line (gates do not learn).",
        scale="share",
    ),
    Chart(
        "memory_drift",
        "Memory drift",
        r"memory_drift/.*",
        "root mean square change",
        "How far one turn moves the slots of each memory layer. Right: of one order in all layers, and steady at the "
        "end. Wrong: near zero (nothing is written), or growing without end (the memory has no bound).",
        scale="log",
    ),
    Chart(
        "learning_rate",
        "Learning rate",
        r"learning_rate(/.*)?",
        "learning rate",
        "The schedule as it ran. Right: the warm-up and the decay that the recipe names, unbroken where the run was "
        "resumed. Wrong: a jump, or a decay that ends before the stage does.",
        scale="zero",
        smooth=False,
    ),
    Chart(
        "tokens_per_second",
        "Speed in tokens",
        r"tokens_per_second",
        "tokens a second",
        "Speed of training, padding not counted. Right: level within a phase. Wrong: it sinks while nothing changes "
        "(the machine has other work, or something grows).",
        scale="zero",
    ),
    Chart(
        "steps_per_second",
        "Speed in steps",
        r"steps_per_second",
        "steps a second",
        "Right: level within a phase, and lower with longer dialogues. Wrong: it sinks while nothing changes.",
        scale="zero",
    ),
    Chart(
        "other",
        "Other figures",
        r".*",
        "value",
        "What else the stages logged, by its name in the log.",
        split=True,
    ),
)


def chart_of(name: str) -> Chart | None:
    """Return the chart that a figure belongs to; None for figures that are not drawn."""
    if name in HIDDEN:
        return None
    return next(chart for chart in CHARTS if re.fullmatch(chart.pattern, name))


def label(chart: Chart, name: str) -> str:
    """Return what a chart calls a figure, in words and without its family: `memory_drift/layer_0` is "layer 0"."""
    bare = name.removeprefix("evaluation/")
    words = NAMES.get(bare, bare.rpartition("/")[2].replace("_", " "))
    return f"{words} (evaluation)" if beside_training(chart, name) else words


def beside_training(chart: Chart, name: str) -> bool:
    """Tell whether a figure of evaluation stands in a chart of training."""
    return name.startswith("evaluation/") and not chart.split

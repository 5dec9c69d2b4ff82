"""The plot of the worth of history: nats by arm, and what is recovered of their difference by turn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rxlm.mrq_bench.arms import ARM_NAMES
from rxlm.mrq_bench.tables import RECOVERED
from rxlm.reporting import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = dict(zip(("memory", "newest", "another"), plots.PALETTE[2:], strict=False))


def draw_worth(report: Mapping[str, Any]) -> tuple["Figure", str, str]:
    """Return the figure, its caption, and what it shows for those who cannot see it.

    Where the model has no arm with everything kept, the right panel has nats gained over nothing.
    """
    has_everything = "everything" in report["arms"]
    title = "recovered share by turn" if has_everything else "nats gained by turn"
    figure, (left, right) = plots.new_panels(["nats a token of reference answers", title], width=5.2, height=3.6)
    _draw_nats(left, report)
    if has_everything:
        _draw_shares(right, report)
    else:
        _draw_gains(right, report)
    return figure, _caption(report, has_everything), "Bars of nats by what is known, and a line plot by turn."


def _draw_nats(axes: "Axes", report: Mapping[str, Any]) -> None:
    arms = [arm for arm in ARM_NAMES if arm in report["arms"]]
    parts = {"all tokens": report["all"], "tokens that the history matters to": report["matters"]}
    shown = {name: [part["nats"][arm] for arm in arms] for name, part in parts.items() if part}
    labels = [f"{ARM_NAMES[arm].replace(' ', chr(10), 1)}\n{report['all']['nats'][arm]['value']:.3f}" for arm in arms]
    values = {name: [e["value"] for e in cells] for name, cells in shown.items()}
    errors = {name: ([e["low"] for e in cells], [e["high"] for e in cells]) for name, cells in shown.items()}
    plots.bar_groups(axes, labels, values, errors)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("nats a token")


def _draw_shares(axes: "Axes", report: Mapping[str, Any]) -> None:
    for name in ("newest", "memory"):
        draw_recovered(axes, report, name, RECOVERED[name], COLORS[name])
    recovered_axes(axes, list(report["by_turn"]))


def draw_recovered(axes: "Axes", report: Mapping[str, Any], name: str, label: str, color: str) -> None:
    """Draw the share that the memory or the newest tokens recover, by turn."""
    series = [(part["recovered"] or {}).get(name) for part in report["by_turn"].values()]
    _draw_series(axes, range(len(series)), series, label, color)


def recovered_axes(axes: "Axes", labels: Sequence[str]) -> None:
    """Name the turns and the shares of axes on which recovered shares are drawn; what is far below 0 is cut off."""
    axes.axhline(1, color=plots.GREY, linewidth=1, linestyle="dotted", label="everything")
    _turn_axis(axes, labels)
    axes.set_ylim(bottom=max(-1.05, min(-0.05, axes.get_ylim()[0])))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("share of what the history is worth")


def _draw_gains(axes: "Axes", report: Mapping[str, Any]) -> None:
    parts = report["by_turn"].values()
    for arm in ("another", "newest", "memory"):
        if arm in report["arms"]:
            series = [part["gain"][arm] for part in parts]
            _draw_series(axes, range(len(parts)), series, ARM_NAMES[arm], COLORS[arm])
    axes.axhline(0, color=plots.GREY, linewidth=1, linestyle="dotted", label=ARM_NAMES["empty"])
    _turn_axis(axes, list(report["by_turn"]))
    axes.set_ylabel("nats a token less than from nothing")


def _draw_series(
    axes: "Axes", places: Sequence[int], series: Sequence[Mapping[str, Any] | None], label: str, color: str
) -> None:
    """Draw the estimates that are there."""
    found = [(place, cell) for place, cell in zip(places, series, strict=True) if cell]
    if found:
        cells = [cell for _, cell in found]
        band = [cell["low"] for cell in cells], [cell["high"] for cell in cells]
        plots.line_plot(axes, [place for place, _ in found], [cell["value"] for cell in cells], label, band, color)


def _turn_axis(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_xticks(range(len(labels)), labels=list(labels))
    axes.set_xlim(-0.3, len(labels) - 0.7)
    axes.set_xlabel("turn of the dialogue")


def _caption(report: Mapping[str, Any], has_everything: bool) -> str:
    known = (
        "Left: how surprising the reference answers after the first turn are to the same weights, by what they know of "
        f"the dialogue, with 95 % intervals; {report['all']['tokens']:,} tokens. "
    )
    if not has_everything:
        return known + (
            "Right: what the memory saves, by turn; as much from another dialogue's memory is no memory of this one."
        )
    return known + (
        f"The history matters to a token if everything kept saves more than {report['threshold']:g} nat at it. Right: "
        "how much of the difference between nothing and everything is recovered; a memory that learned what to keep "
        "stands above the newest tokens. A range where the history is not surely worth anything has no point."
    )

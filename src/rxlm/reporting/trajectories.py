"""The trajectories of memory reinforcement learning as a page: episodes turn by turn, with what each answer earned."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rxlm.reporting.page import Page

TRAJECTORIES_FILE = "trajectories.jsonl"
MOST_STEPS = 30
"""Most steps whose episodes are shown; a page of more is too long to read."""

Episode = Mapping[str, Any]

FIGURES = {"memory_drift": "drift", "value": "value", "advantage": "advantage"}
READING = (
    "Each table is an episode: the reward of each answer, then its parts by name, before weights and scale; an empty "
    "cell is a reward that does not apply. Drift is the root mean square change of the memory by the turn, value what "
    "the critic expected, advantage what the update pushed the answer by. Right: later episodes answer more like the "
    "reference, and the right values are named. Wrong: rewards rise while answers get no better to read (a reward is "
    "gamed), all answers are alike, or the drift is near zero (nothing is written to the memory)."
)


def write_trajectories(path: Path, output: Path) -> Path:
    """Write the page of a stage's trajectories.

    Args:
        path: the JSONL file, in the stage's folder.
        output: the page.

    Returns `output`. Raises `ValueError` where a line is no episode.
    """
    steps: dict[int, list[Episode]] = {}
    for episode in read_trajectories(path):
        steps.setdefault(episode["step"], []).append(episode)
    page = Page(f"Trajectories of {path.parent.name}")
    page.text(READING if steps else "No episode has been logged yet.")
    if steps:
        _add_overview(page, steps)
    shown = _spread(sorted(steps), MOST_STEPS)
    if len(shown) < len(steps):
        page.text(f"Shown are {len(shown)} of {len(steps)} logged steps, evenly spread; {path.name} has all.")
    for step in shown:
        page.heading(f"Step {step:,}")
        for episode in steps[step]:
            _add_episode(page, episode)
    page.write(output)
    return output


def read_trajectories(path: Path) -> list[Episode]:
    """Return the episodes of a file in the order of their steps.

    A run that was resumed logs some steps again: the later record counts. A last line without its end is left out, and
    so are the torn lines that a kill leaves.
    """
    episodes: dict[tuple[int, int], Episode] = {}
    latest = 0
    for episode in _episodes(path):
        step = episode["step"]
        if step < latest:
            episodes = {place: one for place, one in episodes.items() if place[0] < step}
        latest = step
        episodes[step, episode["episode"]] = episode
    return [episodes[place] for place in sorted(episodes)]


def _episodes(path: Path) -> Iterator[Episode]:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        try:
            episode = json.loads(line)
        except ValueError:
            continue
        if not (isinstance(episode, dict) and {"step", "episode", "turns"} <= episode.keys()):
            raise ValueError(f"{path}, line {number}: an episode must have a step, a number and turns, got {line:.80}")
        yield episode


def _add_overview(page: Page, steps: Mapping[int, Sequence[Episode]]) -> None:
    names = _reward_names(episode for episodes in steps.values() for episode in episodes)
    rows = []
    for step in _spread(sorted(steps), MOST_STEPS):
        turns = [turn for episode in steps[step] for turn in episode["turns"]]
        by_name = [_mean([_rewards(turn).get(name) for turn in turns]) for name in names]
        rows.append([step, len(steps[step]), _mean([turn.get("reward") for turn in turns]), *by_name])
    page.table(["step", "episodes", "reward", *names], rows, caption="Means over the logged episodes.")


def _add_episode(page: Page, episode: Episode) -> None:
    turns = episode["turns"]
    names = _reward_names([episode])
    figures = [name for name in FIGURES if any(turn.get(name) is not None for turn in turns)]
    header = ["turn", "query", "answer", "reference", "reward", *names, *(FIGURES[name] for name in figures)]
    rows = [
        [
            number,
            *(turn.get(name) for name in ("query", "answer", "reference", "reward")),
            *(_rewards(turn).get(name) for name in names),
            *(turn.get(name) for name in figures),
        ]
        for number, turn in enumerate(turns)
    ]
    mean = _mean([turn.get("reward") for turn in turns])
    earned = "no reward" if mean is None else f"mean reward {mean:.3g}"
    page.table(header, rows, caption=f"Episode {episode['episode']}: {earned}")


def _rewards(turn: Mapping[str, Any]) -> Mapping[str, float | None]:
    return turn.get("rewards") or {}


def _reward_names(episodes: Iterable[Episode]) -> list[str]:
    return list(dict.fromkeys(name for episode in episodes for turn in episode["turns"] for name in _rewards(turn)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]

"""Folders of runs, as training leaves them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

RECIPE = {
    "name": "small",
    "dialogues": {"steps": 40, "optimizer": {"learning_rate": 0.001, "max_grad_norm": 1.0}},
    "phases": [{"steps": 10, "num_turns": 2}, {"steps": 30, "num_turns": 4, "streams": True}],
}
RESULTS = {
    "tables": [
        {
            "title": "Recall",
            "note": "By distance.",
            "header": ["memory", "1-4", "5-7"],
            "rows": [["true", "99.0% (100)", "95.1% (70)"], ["empty", "3.0% (100)", ""]],
        }
    ],
    "conversation": [["My dog is Rex.", "A fine name."], ["Who is my dog?", "Rex."]],
}


def record(step: int, **figures: float) -> dict[str, Any]:
    return {"stage": "any", "step": step, "time": 100.0 + step, **figures}


def dialogue_records(steps: Iterable[int] = range(1, 41), *, factor: float = 1.0) -> list[dict[str, Any]]:
    """Return a log of stage 4, with figures for every chart but those of evaluation and of other stages."""
    return [
        record(step)
        | {
            "loss": factor * 3 / step,
            "answer_loss": factor * 3 / step,
            "answer_loss_empty": 2.0,
            "token_accuracy": 1 - 1 / (step + 1),
            "gradient_norm": 5 / step,
            "gradient_norm/gates": 0.1 / step,
            "gate/layer_0": 0.3,
            "gate/layer_1": 0.4,
            "memory_drift/layer_0": 0.1,
            "memory_drift/layer_1": 0.2,
            "learning_rate": 0.001,
            "tokens_per_second": 1000.0 + step,
            "seconds_per_step": 0.5,
        }
        for step in steps
    ]


def write_run(
    folder: Path,
    stages: Mapping[str, Iterable[Record]] | None = None,
    *,
    recipe: Any = RECIPE,
    results: Any = RESULTS,
) -> Path:
    """Write a run's folder: records by stage (one stage 4 if not given), recipe and results (None leaves one out)."""
    folder.mkdir(parents=True)
    for stage, records in ({"4-dialogues": dialogue_records()} if stages is None else stages).items():
        (folder / stage).mkdir()
        lines = "".join(json.dumps(one) + "\n" for one in records)
        (folder / stage / "metrics.jsonl").write_text(lines, encoding="utf-8")
    for file, content in (("recipe.json", recipe), ("results.json", results)):
        if content is not None:
            (folder / file).write_text(json.dumps(content), encoding="utf-8")
    return folder

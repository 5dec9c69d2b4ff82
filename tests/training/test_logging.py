"""What a run logs is what it says, on every step that is logged, and logging changes nothing that is learnt."""

import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rxlm.memory.slots.gate import ContentGate
from rxlm.training.joint import MaskedBatch
from rxlm.training.module import part_of
from rxlm.training.tracking import TRACKIO_PROJECT, Pace, Tracker
from rxlm.training.turns import Turns
from training_runs import STAGES, batches, model, stage, trainer

EVERY_STAGE = {"loss", "gradient_norm", "gradient_norm/body", "learning_rate", "seconds_per_step", "tokens_per_second",
               "seconds_left", "step", "stage"}  # fmt: skip
MEMORY = {"gate/layer_0", "gate/layer_1", "memory_drift/layer_0", "memory_drift/layer_1"}
JOINT = {"answer_loss", "masked_loss", "token_accuracy", "answer_loss_empty"}
DIALOGUES = {"answer_loss", "token_accuracy", "answer_loss_empty", "gradient_norm/gates", *MEMORY}
LOGGED = {
    "text": EVERY_STAGE | JOINT,
    "joint": EVERY_STAGE | JOINT,
    "memory_attention": EVERY_STAGE - {"gradient_norm/body"} | {"cosine_similarity", *MEMORY},
    "memory_aware": EVERY_STAGE | DIALOGUES,
    "streams": EVERY_STAGE | DIALOGUES,
}


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", STAGES)
def test_every_figure_is_in_the_log_and_on_the_board(name: str, tmp_path: Path) -> None:
    trainer(name, tmp_path, steps=2).run()
    for line in log_of(tmp_path):
        assert LOGGED[name] <= line.keys()
        assert all(math.isfinite(value) for value in line.values() if isinstance(value, float))
    (board,) = (tmp_path / "tensorboard").iterdir()
    drawn = {
        (event.step, value.tag): value.tensor.float_val[0]
        for event in EventFileLoader(str(board)).Load()
        for value in event.summary.value
    }
    figures = {
        (line["step"], tag): value
        for line in log_of(tmp_path)
        for tag, value in line.items()
        if tag not in ("stage", "step", "time")
    }
    assert drawn == pytest.approx(figures, rel=1e-6)


def test_tensorboard_shows_each_step_once_after_a_killed_process_went_on(tmp_path: Path) -> None:
    for process, (first_step, last_step) in enumerate([(0, 5), (3, 6)]):
        tracker = Tracker(tmp_path, "stage", first_step)
        for step in range(first_step + 1, last_step + 1):
            tracker.log(step, {"loss": float(process)})
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 0.0), (2, 0.0), (3, 0.0), (4, 1.0), (5, 1.0), (6, 1.0)
    ]  # fmt: skip


def test_turns_that_were_cut_are_counted_in_the_log(tmp_path: Path) -> None:
    made, counts = trainer("memory_aware", tmp_path, steps=2), iter((3, 5))
    made.num_cut = lambda: next(counts)
    made.run()
    assert [line["truncated/turns"] for line in log_of(tmp_path)] == [3.0, 5.0]


@pytest.mark.parametrize("name", STAGES)
def test_logging_every_step_or_none_learns_the_same(name: str, tmp_path: Path) -> None:
    """Although it draws random numbers: here even the initial memory is noise."""
    runs = [
        trainer(name, tmp_path / str(every), model(initial_memory="normal"), steps=4, log_every=every)
        for every in (1, 100)
    ]
    for run in runs:
        run.run()
    one, other = (run.module.state_dict() for run in runs)
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert runs[0].module.carried_state().keys() == runs[1].module.carried_state().keys()


@pytest.mark.parametrize("name", [name for name in STAGES if name != "memory_attention"])
@torch.no_grad()
def test_the_loss_with_an_empty_memory_is_that_of_new_conversations(name: str) -> None:
    module = stage(name, model()).eval()
    batch = module.prepare(next(batches(name, 8)), torch.Generator().manual_seed(0))
    losses = []
    for ids, targets, segments in first_rows(batch):
        for segment in segments.unique().tolist():
            own = segments == segment
            text, wanted = ids[own], targets[own].nonzero()[:, 0]
            if segment and len(wanted):
                logits = module.model.decode(text[None], module.model.init_memory(1))[0]
                losses += F.cross_entropy(logits[wanted - 1], text[wanted], reduction="none").tolist()

    expected = sum(losses) / len(losses)
    assert module.diagnose(batch)["answer_loss_empty"] == pytest.approx(expected, rel=1e-5)


def first_rows(batch: MaskedBatch | Turns) -> Any:
    """Yield ids, targets and segments (T,) of the rows that are diagnosed: one of eight dialogues, or of eight rows."""
    if isinstance(batch, Turns):
        yield from zip(batch.ids[:, 0], batch.answer_mask[:, 0], batch.mask[:, 0].long(), strict=True)
    else:
        segments = batch.mask.long() if batch.segments is None else batch.segments
        yield batch.ids[0], batch.targets[0], segments[0]


def test_an_eighth_of_a_batch_is_diagnosed_and_at_least_a_row() -> None:
    assert [part_of(size) for size in (1, 4, 15, 16, 64)] == [1, 1, 1, 2, 8]


@torch.no_grad()
def test_gates_and_drift_are_means_over_the_updates_of_rows_that_have_a_turn() -> None:
    network = model().memory_writer
    generator = torch.Generator().manual_seed(0)
    slots = torch.randn(2, 3, 4, 16, generator=generator)
    masks = torch.tensor([[[1, 1, 1], [1, 1, 0], [1, 0, 0]], [[1, 1, 1], [0, 0, 0], [1, 1, 0]]]).bool()
    encoded = torch.randn(2, 2, 3, 3, 16, generator=generator)  # (turns, L, B, T, D)
    with network.watch() as watch:
        states = [slots]
        for turn in range(2):
            states.append(network(states[-1], encoded[turn], masks[turn]))
    figures = watch.figures()
    network(slots, encoded[0], masks[0])  # not watched any more

    assert figures == watch.figures()
    assert figures.keys() == MEMORY
    updates = [(turn, row) for turn in range(2) for row in range(3) if masks[turn, row].any()]
    for layer in range(2):
        moved = [(states[turn + 1] - states[turn])[layer, row].square().mean().sqrt() for turn, row in updates]
        assert figures[f"memory_drift/layer_{layer}"] == pytest.approx(float(sum(moved) / len(moved)), rel=1e-5)
    gate = network.layers[0].write_gate
    assert isinstance(gate, ContentGate)
    gate.linear.weight.zero_()
    gate.linear.bias.fill_(2.0)
    with network.watch() as watch:
        network(slots, encoded[0], masks[0])
    assert watch.figures()["gate/layer_0"] == pytest.approx(1 / (1 + math.exp(-2.0)), rel=1e-5)


@torch.no_grad()
def test_memory_attention_without_gates_has_no_gates_to_log() -> None:
    network = model(gate="none", variant="self").memory_writer
    with network.watch() as watch:
        network(torch.randn(2, 3, 4, 16), torch.randn(2, 3, 5, 16), torch.ones(3, 5, dtype=torch.bool))
    assert watch.figures().keys() == {"memory_drift/layer_0", "memory_drift/layer_1"}


def test_speed_is_that_of_all_steps_since_the_last_line_and_counts_no_padding(tmp_path: Path) -> None:
    run = trainer("memory_aware", tmp_path, steps=4, log_every=2)
    run.run()
    source = batches("memory_aware")
    tokens = [sum(int(turn.mask.sum()) for turn in next(source).turns) for _ in range(4)]

    for line, expected in zip(log_of(tmp_path), (sum(tokens[:2]), sum(tokens[2:])), strict=True):
        assert line["tokens_per_second"] * 2 * line["seconds_per_step"] == pytest.approx(expected)


def test_time_left_is_what_the_steps_so_far_took_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 130.0, 190.0])
    monkeypatch.setattr("rxlm.training.tracking.time.monotonic", lambda: next(clock))
    pace = Pace(10, 30)
    pace.add(500, 1.0)
    pace.add(700, 2.0)
    assert pace.figures(12) == {"tokens_per_second": 400.0, "seconds_per_step": 1.5, "seconds_left": 270.0}
    pace.add(100, 0.5)
    assert pace.figures(13) == {"tokens_per_second": 200.0, "seconds_per_step": 0.5, "seconds_left": 510.0}


class TrackioStandIn:
    """Takes what the real one takes, and keeps it."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, project: str, *, name: str, resume: str, embed: bool) -> Any:
        self.started.append({"project": project, "name": name, "resume": resume, "embed": embed})
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def finish(self) -> None:
        self.finished += 1


def test_trackio_follows_a_run_where_the_environment_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = TrackioStandIn()
    monkeypatch.setitem(sys.modules, "trackio", stand_in)
    trainer("memory_aware", tmp_path / "first", steps=2).run()
    assert not stand_in.started
    monkeypatch.setenv(TRACKIO_PROJECT, "facts")
    trainer("memory_aware", tmp_path / "tiny" / "4-dialogues", steps=2).run()

    assert stand_in.started == [{"project": "facts", "name": "tiny-4-dialogues", "resume": "allow", "embed": False}]
    assert [step for step, _ in stand_in.logged] == [1, 2]
    written = log_of(tmp_path / "tiny" / "4-dialogues")
    assert [
        {key: line[key] for key in figures} for line, (_, figures) in zip(written, stand_in.logged, strict=True)
    ] == [figures for _, figures in stand_in.logged]
    assert stand_in.finished == 1


def test_trackio_that_is_not_installed_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.setenv(TRACKIO_PROJECT, "facts")
    with pytest.raises(ValueError, match=r"RXLM_TRACKIO=facts asks for trackio, which is not installed: pip install"):
        trainer("memory_aware", tmp_path).run()
    assert os.listdir(tmp_path) == []

"""Processes that share the rows of a batch learn what one with all rows does."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch

from helpers import assert_close
from rxlm.cli import main
from rxlm.cli.train import share
from rxlm.config import ConfigError
from rxlm.file_errors import read_json_object
from rxlm.recipes import FactsRecipe, open_run, tiny
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.stages import steps_of
from rxlm.training import distributed
from rxlm.training.heartbeat import LostProcessError
from rxlm.training.processes import sharing
from small_recipes import quick


def of_text() -> FactsRecipe:
    """Return a recipe whose steps draw nothing but rows."""
    recipe = quick(tiny().without_stages("language", "interactions", "memory_attention"))
    return cast(FactsRecipe, recipe)


def test_two_processes_share_the_rows_of_one_and_the_questions_to_its_model(tmp_path: Path) -> None:
    recipe, threads = of_text(), torch.get_num_threads()
    one, two = open_run(recipe, tmp_path / "alone"), tmp_path / "shared"
    alone = one.train()
    with sharing(2, share, recipe, two):
        assert distributed.world_size() == 2
        run = open_run(recipe, two, shares_rows=True)
        shared = run.train()
        together = run.results(shared)
    assert together == one.results(alone)
    assert together == run.results(shared)  # from the file
    assert (distributed.world_size(), torch.get_num_threads()) == (1, threads)
    weights = dict(alone.named_parameters())
    for name, weight in shared.named_parameters():
        assert_close(weight, weights[name], 1e-6)


def test_what_is_wrong_for_all_processes_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_run(of_text(), tmp_path).train()
    other = of_text().replace(seed=1)
    with pytest.raises(ConfigError, match="another recipe"), sharing(2, share, other, tmp_path):
        open_run(other, tmp_path, shares_rows=True)
    assert capfd.readouterr().err == ""


def test_a_stage_more_is_measured_by_all_processes_or_none(tmp_path: Path) -> None:
    """The others look while the first one still saves its model."""
    phases = steps_of(DialoguePhase(steps=1, num_turns=3))
    recipe = of_text().with_stage("mrl", **phases, batch_size=2)
    open_run(recipe, tmp_path).results(open_run(recipe, tmp_path).train())
    with sharing(2, share, recipe, tmp_path, "mrl"):
        run = open_run(recipe, tmp_path, shares_rows=True)
        run.results(run.train("mrl"))
    assert "5-mrl" in read_json_object(tmp_path / "results.json")["stages"]


class EndsWhenRead:
    """Work that ends the process that reads it."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (7,)


def test_a_process_that_ends_before_it_joins_is_not_waited_for() -> None:
    with (
        pytest.raises(LostProcessError, match="ended with exit status 7 before it began"),
        sharing(2, cast(Callable[..., object], EndsWhenRead())),
    ):
        pytest.fail("there is no other process")


def interrupted() -> type[int]:
    """Press Ctrl-C, and return what can be called."""
    signal.raise_signal(signal.SIGINT)
    return int


class InterruptedWhenRead:
    """Work whose process is sent Ctrl-C, as all of a terminal are, while it reads what to do."""

    def __reduce__(self) -> tuple[Callable[[], type[int]], tuple[()]]:
        return interrupted, ()


def test_an_early_ctrl_c_is_for_the_first_process_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with sharing(2, cast(Callable[..., object], InterruptedWhenRead())):
        assert distributed.world_size() == 2
    assert capfd.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


class SentOnce:
    """Work that the first of the others gets, and no further one."""

    def __init__(self) -> None:
        self.sent = 0

    def __reduce__(self) -> tuple[type[int], tuple[()]]:
        self.sent += 1
        if self.sent > 1:
            raise pickle.PicklingError("one pickle is enough")
        return int, ()


def test_a_process_that_cannot_be_started_leaves_nothing_changed_and_nobody_running() -> None:
    threads = torch.get_num_threads()
    with (
        pytest.raises(pickle.PicklingError, match="one pickle is enough"),
        sharing(3, cast(Callable[..., object], SentOnce())),
    ):
        pytest.fail("there are no three processes")
    for other in multiprocessing.active_children():
        other.join(30)
        assert other.exitcode is not None, "it waits for those that never start"
    assert torch.get_num_threads() == threads
    assert "WORLD_SIZE" not in os.environ


def test_one_process_needs_no_group() -> None:
    with sharing(1, print):
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "0"], "--processes must be at least 1, got 0"),
        (["--processes", "1000000"], "language.batch_size must be a multiple of 1000000"),
        (["--processes", "2", "--parallel", "fsdp"], "torchrun --nproc-per-node 2"),
    ],
)
def test_processes_that_cannot_share_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny", "--device", "cpu", "--output", str(tmp_path / "run"), *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_rows_that_cannot_be_shared_equally_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(ConfigError, match=r"language.batch_size must be a multiple of 3, .* got 128\."):
        open_run(tiny(), tmp_path / "run", shares_rows=True)
    assert not (tmp_path / "run").exists()

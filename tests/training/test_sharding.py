"""Sharded training: processes that divide the weights among them learn what one process does that has them all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from process_groups import Ended, group
from retention_models import gated, language_model
from rxlm.config import ConfigError
from rxlm.recipes import open_run, tiny
from rxlm.rxt.models import RxTAlpha
from rxlm.training.checkpoint import Checkpoints
from rxlm.training.heartbeat import INTERVAL
from sharded_runs import RUNS, meet, train, train_and_die, train_on_a_full_disk, train_upcycled

NAMED = ("retention with adapters", "stage 4", "stage 4 with muon", "stage 5")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("models") / "llama")


def trained(*arguments: Any, processes: int, **environment: str) -> None:
    ended = group(train, *arguments, processes=processes, **environment)
    assert [process.status for process in ended] == [0] * processes, errors(ended)


def errors(ended: list[Ended]) -> str:
    return "".join(process.errors for process in ended)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path, name: str, source: Path, step: int) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint, as one process reads them."""
    run = RUNS[name](folder / "elsewhere", "ddp", source)
    Checkpoints(folder / name / "checkpoints").load(step, run.module)
    return run.module.state_dict()


def assert_equal(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor], tolerance: float = 1e-9) -> None:
    assert ours.keys() == others.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, others[name], atol=tolerance, rtol=tolerance, msg=name)


def test_losses_and_weights_equal_those_of_one_process(tmp_path: Path, source: Path) -> None:
    """Whether a layer or the whole stage is put together at once; rollouts are played by the whole model."""
    trained(tmp_path / "one", "ddp", source, NAMED, {}, processes=1)
    trained(tmp_path / "two", "fsdp", source, NAMED, {}, processes=2)
    for name in NAMED:
        one, two = (losses(tmp_path / part / name) for part in ("one", "two"))
        assert len(one) == len(two) == 8
        assert two == pytest.approx(one, abs=1e-5), name
        assert one[0] != pytest.approx(one[-1], abs=1e-3)  # it learns something
    for name in NAMED[:3]:
        assert_equal(weights(tmp_path / "two", name, source, 8), weights(tmp_path / "one", name, source, 8))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_weights_that_the_rows_of_one_process_alone_reach(parallel: str, tmp_path: Path, source: Path) -> None:
    """The memory network has a gradient in one process and none in the other, which has first turns only."""
    few = {"steps": 3, "accumulation": 2}
    trained(tmp_path / "one", "ddp", source, ("first turns",), few, processes=1)
    trained(tmp_path / "two", parallel, source, ("first turns",), few, processes=2)
    one, two = (losses(tmp_path / part / "first turns") for part in ("one", "two"))
    assert two == pytest.approx(one, abs=1e-9)


def test_experts_of_all_layers_are_balanced(tmp_path: Path, source: Path) -> None:
    for parallel in ("ddp", "fsdp"):
        trained(tmp_path / parallel, parallel, source, ("experts",), {"steps": 2}, processes=2)
    whole, divided = (losses(tmp_path / part / "experts") for part in ("ddp", "fsdp"))
    assert divided == pytest.approx(whole, abs=1e-9)


def test_four_processes_of_two_machines_with_all_parts_each(tmp_path: Path, source: Path) -> None:
    """Hybrid sharding; layers are computed again for the backward pass. The language model is a frozen copy here."""
    few: dict[str, Any] = {"steps": 4}
    names = ("retention", "streams")
    trained(tmp_path / "one", "ddp", source, names, few, processes=1)
    again = few | {"activation_checkpointing": True}
    trained(tmp_path / "four", "hsdp", source, names, again, processes=4, LOCAL_WORLD_SIZE="2")
    for name in names:
        assert losses(tmp_path / "four" / name) == pytest.approx(losses(tmp_path / "one" / name), abs=1e-5)


def test_four_then_two_then_one_process_go_on_where_the_others_stopped(tmp_path: Path, source: Path) -> None:
    """Weights and the optimizer's moments are divided anew; the last process has them whole, and the data goes on."""
    names = ("retention with adapters", "stage 4 with muon")
    trained(tmp_path / "one", "ddp", source, names, {"steps": 6}, processes=1)
    for processes, steps in ((4, 2), (2, 4), (1, 6)):
        parallel = "fsdp" if processes > 1 else "ddp"
        trained(tmp_path / "divided", parallel, source, names, {"steps": steps}, processes=processes)
    for name in names:
        assert losses(tmp_path / "divided" / name) == pytest.approx(losses(tmp_path / "one" / name), abs=1e-9)


def test_whole_weights_of_one_process_are_divided_among_two(tmp_path: Path, source: Path) -> None:
    names = ("stage 4",)
    trained(tmp_path / "straight", "ddp", source, names, {"steps": 4}, processes=1)
    trained(tmp_path / "divided", "ddp", source, names, {"steps": 2}, processes=1)
    trained(tmp_path / "divided", "fsdp", source, names, {"steps": 4}, processes=2)
    assert losses(tmp_path / "divided" / names[0]) == pytest.approx(losses(tmp_path / "straight" / names[0]), abs=1e-9)


def test_a_run_whose_process_is_killed_goes_on_to_the_same_weights(tmp_path: Path, source: Path) -> None:
    """Checkpoints are written while training goes on: the one under way is lost, and the one before is whole."""
    trained(tmp_path / "straight", "fsdp", source, ("retention",), {"steps": 6, "checkpoint_every": 1}, processes=2)
    ended = group(train_and_die, tmp_path / "killed" / "retention", source, 4, **{INTERVAL: "0.5"})
    assert ended[1].status == -9
    assert ended[0].status != 0
    steps = Checkpoints(tmp_path / "killed" / "retention" / "checkpoints").steps()
    assert steps
    assert max(steps) < 5
    trained(tmp_path / "killed", "fsdp", source, ("retention",), {"steps": 6, "checkpoint_every": 1}, processes=2)
    straight, again = (weights(tmp_path / part, "retention", source, 6) for part in ("straight", "killed"))
    assert_equal(straight, again, tolerance=0.0)


def test_restarted_processes_do_not_take_the_addresses_of_those_that_are_gone() -> None:
    """torchrun's store outlives a restart: who is early there finds what the process before the late one wrote."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    for attempt in range(6):  # which of two processes waits for the other depends on their ports
        ended = group(meet, 1.0, seconds=40, meeting=store, TORCHELASTIC_RESTART_COUNT=str(attempt))
        assert [process.status for process in ended] == [0, 0], errors(ended)


def test_a_checkpoint_whose_parts_find_no_room_never_gets_its_name(tmp_path: Path, source: Path) -> None:
    """The error names it, the one before stays, and there is a next one."""
    ended = group(train_on_a_full_disk, tmp_path / "retention", source)
    assert [process.status for process in ended] == [0, 0], errors(ended)


def test_hybrid_sharding_needs_machines_of_the_same_size(tmp_path: Path, source: Path) -> None:
    ended = group(train, tmp_path, "hsdp", source, ("stage 4",), {}, processes=3, LOCAL_WORLD_SIZE="2")
    assert "parallel must be ddp or fsdp where machines have different numbers of processes" in errors(ended)


@pytest.mark.parametrize("parallel", ["fsdp", "hsdp"])
def test_a_model_that_is_to_be_divided_is_not_moved_to_the_device(parallel: Any, tmp_path: Path) -> None:
    run = open_run(tiny(), tmp_path / "run")
    run.device, run.parallel = torch.device("meta"), parallel
    assert run._placed(torch.nn.Linear(1, 1)).weight.device.type == "cpu"


def test_torchrun_starts_a_killed_run_again_from_its_last_checkpoint(tmp_path: Path, source: Path) -> None:
    """Elastic restart: nobody gives the command again."""
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1",
         str(Path(__file__).parent / "sharded_runs.py"), str(tmp_path / "retention"), str(source)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), INTERVAL: "0.5"},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert Checkpoints(tmp_path / "retention" / "checkpoints").steps()[-1] == 6
    steps = [json.loads(line)["step"] for line in (tmp_path / "retention" / "metrics.jsonl").read_text().splitlines()]
    assert 1 < len(steps) < 12  # it did not begin anew


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_the_model_of_a_sharded_run_is_that_of_one_that_is_not(lora_rank: int, tmp_path: Path, source: Path) -> None:
    """A recipe from its first file to the saved model: adapters are merged, and nothing of them is left."""
    for parallel in ("ddp", "fsdp"):
        ended = group(train_upcycled, tmp_path / parallel, parallel, source, lora_rank)
        assert [process.status for process in ended] == [0, 0], errors(ended)
    whole, divided = (RxTAlpha.from_pretrained(tmp_path / parallel).state_dict() for parallel in ("ddp", "fsdp"))
    assert_equal(whole, divided, tolerance=1e-5)
    start = RxTAlpha.from_pretrained(tmp_path / "fsdp" / "start").state_dict()
    assert any(not torch.equal(tensor, start[name]) for name, tensor in divided.items())


def test_a_process_alone_has_nobody_to_share_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="parallel must be ddp where torchrun has not started the process"):
        open_run(tiny(), tmp_path / "run", "cpu", "fsdp")
    assert not (tmp_path / "run").exists()


def test_mapped_weights_are_those_that_are_read(tmp_path: Path, source: Path) -> None:
    gated(source).save_pretrained(tmp_path / "model")
    read, mapped = (RxTAlpha.from_pretrained(tmp_path / "model", mapped=mapped) for mapped in (False, True))
    assert_equal(read.state_dict(), mapped.state_dict(), tolerance=0.0)

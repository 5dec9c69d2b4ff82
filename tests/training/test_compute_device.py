"""Which device a run computes on."""

from pathlib import Path

import pytest
import torch

from rxlm.cli import main
from rxlm.training.distributed import compute_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return monkeypatch


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_is_the_cpu() -> None:
    assert compute_device() == torch.device("cpu")


@pytest.mark.usefixtures("gpus")
def test_with_a_gpu_it_is_that() -> None:
    assert compute_device() == torch.device("cuda", 0)
    assert compute_device("cuda:1") == torch.device("cuda", 1)
    assert compute_device("cpu") == torch.device("cpu")


def test_each_process_has_a_gpu_of_its_own(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("LOCAL_WORLD_SIZE", "2")
    gpus.setenv("LOCAL_RANK", "1")
    assert compute_device("auto") == compute_device("cuda") == torch.device("cuda", 1)


def test_more_processes_than_gpus_are_refused(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("LOCAL_WORLD_SIZE", "3")
    gpus.setenv("LOCAL_RANK", "0")
    with pytest.raises(ValueError, match=r"3 processes on 2 GPU\(s\).*--nproc-per-node 2.*device cpu"):
        compute_device()


def test_one_named_gpu_is_not_for_several_processes(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"'cuda:0' with 2 processes"):
        compute_device("cuda:0")


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no device 'cuda:2': this machine has 2 GPU\(s\)"):
        compute_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_bad_devices_are_refused_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train", "tiny"], ["quickstart"]):
        for name, message in (("cuda", "finds no CUDA GPU here"), ("gpu", "There is no device 'gpu'")):
            assert main([*command, "--device", name, "--output", str(tmp_path / "run")]) != 0
            assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

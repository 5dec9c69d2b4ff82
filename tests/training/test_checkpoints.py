"""A run goes on from the newest checkpoint that is whole, says which are not, and never has none that is."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rxlm.training.checkpoint import OWN, STATE, WEIGHTS, Checkpoints

FILES = (WEIGHTS, STATE, OWN.format(0))


def module(value: float = 0.0) -> nn.Module:
    made = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    return made


def save(checkpoints: Checkpoints, *steps: int, **state: Any) -> None:
    for step in steps:
        checkpoints.save(step, module(step), {"step": step, **state}, {"random": torch.ones(9)})


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    save(checkpoints, 5, 10)
    return checkpoints


def damage(checkpoints: Checkpoints, step: int, name: str, how: str) -> Path:
    path = checkpoints.path(step) / name
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return path
    if how == "changed":
        content[-9] ^= 1
    path.write_bytes(content[: len(content) // 2] if how == "truncated" else b"" if how == "empty" else content)
    return path


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "of an earlier version"])
@pytest.mark.parametrize("how", ["truncated", "empty", "missing", "changed"])
@pytest.mark.parametrize("name", FILES)
def test_the_newest_whole_checkpoint_is_used_and_the_others_are_named(
    name: str, how: str, marked: bool, saved: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    path = damage(saved, 10, name, how)
    if not marked:
        if how == "changed" or (name, how) == (OWN.format(0), "missing"):
            pytest.skip("nothing but the marker tells")
        (path.parent / "checksums.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert saved.newest_whole() == 5
    assert "The checkpoint of step 10 is not whole and is not used" in caplog.text
    assert str(path) in caplog.text
    target = module()
    assert saved.load(5, target) == {"step": 5}
    assert all((parameter == 5).all() for parameter in target.parameters())

    damage(saved, 5, WEIGHTS, "empty")
    with pytest.raises(ValueError, match=r"No checkpoint in .* is whole\. .*step-000010"):
        saved.newest_whole()


def test_a_whole_checkpoint_stays_when_a_damaged_one_is_newer(saved: Checkpoints) -> None:
    saved.keep_last = 1
    damage(saved, 10, STATE, "truncated")
    save(saved, 6)
    assert saved.steps() == [6], "the damaged one is not the last that is kept"
    save(saved, 10)
    assert saved.newest_whole() == 10


def test_with_one_that_is_kept_the_old_one_goes_after_the_new_one_is_whole(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.keep_last = 1

    def full(*arguments: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("rxlm.training.checkpoint.write_marker", full)
        with pytest.raises(OSError, match="no space"):
            save(saved, 11)
    assert saved.newest_whole() == 10
    save(saved, 12)
    assert [path.name for path in saved.folder.iterdir()] == ["step-000012"], "nothing of the failed one is left"


def test_folders_that_are_no_checkpoints_are_let_alone(saved: Checkpoints) -> None:
    for name in ("step-000005.bak", "step-old", "step-7"):
        (saved.folder / name).mkdir()
    (saved.folder / "step-000099").touch()
    save(saved, 15)
    assert saved.steps() == [10, 15]
    assert (saved.folder / "step-000005.bak").is_dir()


def test_a_checkpoint_of_another_model_changes_nothing(saved: Checkpoints) -> None:
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"step-000010 does not fit the model: 1\.bias has shape \(2,\) where \(3,\)"):
        saved.load(10, other)
    with pytest.raises(ValueError, match=r"2\.weight is missing"):
        saved.load(10, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(1, 1)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_a_checkpoint_with_values_that_are_no_numbers_is_refused(saved: Checkpoints) -> None:
    path = saved.path(10) / WEIGHTS
    weights = load_file(path)
    weights["0.weight"][0, 0] = float("nan")
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"0\.weight holds NaN"):
        saved.load(10, module())
    save(saved, 11, optimizer={"0.weight": {"exp_avg": torch.full((2,), float("inf"))}})
    with pytest.raises(ValueError, match=r"optimizer\.0\.weight\.exp_avg holds NaN or infinity"):
        saved.load(11, module())

"""Several processes that resume are, each, where they were; other numbers of processes go on with what can be kept."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from process_groups import group
from resumed_runs import train, train_in_group
from rxlm.folders import MARKER
from rxlm.training.checkpoint import OWN, STATE

NAMES = "joint,memory_aware,streams,streamed_text,streamed_dialogues,mrl"


def run(folder: Path, names: str, *stop: int, processes: int = 2) -> str:
    """Train stages in some processes, and return what they said."""
    ended = group(train_in_group, folder, names, *stop, processes=processes)
    said = "".join(process.errors for process in ended)
    assert [process.status for process in ended] == [0] * processes, said
    return said


def flat(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Return all tensors in nested dicts, by their path."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else ()
    return {key: tensor for part, inner in parts for key, tensor in flat(inner, f"{name}/{part}").items()}


def ends(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Return what each process had at the end of a stage."""
    return [flat(torch.load(path, weights_only=True)) for path in sorted(folder.glob("end-*.pt"))]


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, tensor in one.items() if key not in other or not torch.equal(tensor, other[key])}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes that were cut off after step 4."""
    folder = tmp_path_factory.mktemp("stopped")
    run(folder, NAMES, 4)
    return folder


def test_two_processes_that_resume_end_where_they_would_have_without_a_stop(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "resumed")
    run(tmp_path / "straight", NAMES)
    run(tmp_path / "resumed", NAMES)

    for name in NAMES.split(","):
        straight, resumed = ends(tmp_path / "straight" / name), ends(tmp_path / "resumed" / name)
        assert [differences(*pair) for pair in zip(straight, resumed, strict=True)] == [set(), set()], name
        assert "/next" in differences(*straight), "each process draws its own random numbers"
        assert differences(straight[0], ends(stopped / name)[0]), "the last two steps learn"


def test_one_process_goes_on_from_two_and_says_what_begins_anew(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    names = ("joint", "streams", "streamed_text", "streamed_dialogues", "mrl")
    said = run(tmp_path, ",".join(names), processes=1)
    assert said.count("goes on from step 4 with 1 process(es), and its checkpoint has the state of 2") == len(names)
    assert "weights, optimizer and the place in the data are kept" in said
    for name in names:
        folder = tmp_path / name / "checkpoints" / "step-000006"
        assert [path.name for path in folder.glob("rank-*.pt")] == ["rank-00000.pt"]


def test_a_checkpoint_in_one_file_goes_on_exactly_in_one_process_and_says_what_two_lack(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train("streams", tmp_path / "straight" / "streams", None)
    train("streams", tmp_path / "one" / "streams", 4)
    for folder in (tmp_path / "one" / "streams" / "checkpoints").iterdir():  # as versions before wrote them
        own, shared = folder / OWN.format(0), folder / STATE
        torch.save(torch.load(shared) | torch.load(own), shared)
        own.unlink()
        (folder / MARKER).unlink()
    shutil.copytree(tmp_path / "one", tmp_path / "two")

    train("streams", tmp_path / "one" / "streams", None)
    assert "begin anew" not in caplog.text
    assert not differences(*(ends(tmp_path / kind / "streams")[0] for kind in ("straight", "one")))
    assert "with 2 process(es), and its checkpoint has the state of 1" in run(tmp_path / "two", "streams")
    assert not {name for name in differences(*ends(tmp_path / "two" / "streams")) if name.startswith("/weights")}

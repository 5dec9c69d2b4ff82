"""A file that the system refuses is named as the one that was to be written, whatever library writes it."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from full_disk import full_disk
from rxlm.files import write_atomically, write_text
from rxlm.folders import saving
from rxlm.training.checkpoint import Checkpoints
from rxlm.training.tracking import Tracker
from text_models import tiny_text_model, tiny_tokenizer

TENSORS = {"a": torch.ones(1000)}


def save_state(path: Path) -> None:
    with path.open("wb") as file:
        torch.save(TENSORS, file)


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_text("text"),
    "safetensors": lambda path: save_file(TENSORS, path),
    "torch": save_state,
    "tokenizers": lambda path: tiny_tokenizer().backend_tokenizer.save(str(path)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_an_error_of_the_file_and_leaves_the_old_one(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with full_disk(tmp_path), pytest.raises(OSError, match="File too large") as raised:
        write_atomically(path, WRITERS[writer])
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(path))
    assert raised.value.filename2 is None
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]


def test_a_file_of_a_folder_is_named_where_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such") as raised, saving(tmp_path / "model") as draft:
        (draft / "missing" / "config.json").write_text("text")
    assert raised.value.filename == str(tmp_path / "model" / "missing" / "config.json")


def test_an_error_of_ours_stays_what_it_is(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        try:
            path.read_text()
        except OSError as error:
            raise ValueError("what is wrong, in words") from error

    with pytest.raises(ValueError, match="in words"):
        write_atomically(tmp_path / "file", refuse)


@pytest.mark.parametrize("room", [0, 3000])
def test_a_checkpoint_that_finds_no_room_names_itself_and_keeps_the_one_before(room: int, tmp_path: Path) -> None:
    checkpoints, model = Checkpoints(tmp_path), tiny_text_model()
    checkpoints.save(1, model, {"step": 1}, {"place": 1})
    with full_disk(tmp_path, room), pytest.raises(OSError, match="File too large") as raised:
        checkpoints.save(2, model, {"step": 2}, {"place": 2})
    assert str(raised.value.filename).startswith(str(tmp_path / "step-000002"))
    assert checkpoints.newest_whole() == 1


def test_figures_that_find_no_room_name_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with full_disk(tmp_path), pytest.raises(OSError, match="tfevents"):
        Tracker(tmp_path, "dialogues", 0)
    tracker = Tracker(tmp_path, "dialogues", 0)
    with full_disk(tmp_path), pytest.raises(OSError, match=r"metrics\.jsonl"):
        tracker.log(1, {"loss": 1.0})
    assert capsys.readouterr().err == ""  # no thread's traceback

"""The interaction programs of the published models run on a folder and on a hub id, with the real hub client."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub_server import serve
from rxlm.rxt.hub import CheckpointError
from rxlm.rxt.models import RxTAlpha, RxTBeta
from text_models import tiny_text_model

MODEL_ID = "somebody/some-model"
SEPARATOR = "---- the next program ----"
SEEDS = Path(__file__).parents[3] / "shared" / "seeds"

TURN_BY_TURN = """
from rxlm.rxt.models import RxTAlpha
from rxlm.training.tokenizer import load_tokenizer_from_hf_hub

tokenizer = load_tokenizer_from_hf_hub("MODEL")
model = RxTAlpha.from_pretrained("MODEL", tokenizer=tokenizer)
model.share_components()
model.init_stm_state(**model.tokenize_full_interaction("You are kind.", "", max_seq_len=40))


def interaction(query):
    for token_id in model.interact(**model.tokenize_query(query, max_seq_len=40), max_seq_len=40, temperature=0.8):
        if token_id == -1:
            print("\\n<update>")
        elif token_id == -2:
            print("<updated>")
        else:
            print(model.stringify_token(token_id), end="")


interaction("My dog is called Rex.")
interaction("What is my dog called?")
"""


def run(*programs: str, **environment: str) -> list[str]:
    """Run programs in a process of their own, as a user would, and return what each prints."""
    separate = f"print({SEPARATOR!r})"
    program = f"\n{separate}\n".join(f"exec({each!r}, {{}})" for each in programs)
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split(SEPARATOR)


def programs_of_the_seeds() -> list[str]:
    """The interaction programs as they stand in the project's seeds; the second one has lost its line breaks there."""
    pages = {path.name[:3]: path.read_text(encoding="utf-8") for path in SEEDS.glob("*.txt")}
    first = next(
        block for block in re.findall(r"```python\n(.*?)```", pages["000"], re.DOTALL) if "def interaction" in block
    )
    lines = pages["001"].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("from rxlm.rxt.models"))
    end = next(i for i, line in enumerate(lines) if line.startswith("interaction('What was"))
    second = "\n".join(lines[start : end + 1])
    second = second.replace("seq_len = 256# ", "seq_len = 256\n# ")
    second = second.replace("# Helper functiondefinteraction", "# Helper function\ndef interaction")
    second = indent(second)
    return [first, second]


def indent(program: str) -> str:
    """Give a program that lost its indentation the only one that Python and the sense allow."""
    depth = {"def ": 0, "tokenized_query =": 1, "for ": 1, "if token_id": 2, "elif ": 2, "else:": 2, "txt_token": 3,
             "print(txt_token": 3}  # fmt: skip
    return "\n".join("    " * next((n for head, n in depth.items() if line.startswith(head)), 0) + line
                     for line in program.splitlines())  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "model"
    tiny_text_model(max_seq_len=256).save_pretrained(path)
    return path


def test_the_interaction_program_runs_on_a_folder_on_a_hub_id_and_offline_afterwards(
    folder: Path, tmp_path: Path
) -> None:
    for output in outputs_of([TURN_BY_TURN.replace("MODEL", str(folder))], [TURN_BY_TURN.replace("MODEL", MODEL_ID)],
                             folder, tmp_path):  # fmt: skip
        assert output.count("<update>") == output.count("<updated>") == 2


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the project's seeds are not beside the repository")
def test_the_programs_of_the_seeds_run_as_printed_apart_from_the_model_id(folder: Path, tmp_path: Path) -> None:
    on_folder, on_hub = (
        [re.sub(r"'ReactiveAI/[\w.-]+'", repr(name), program) for program in programs_of_the_seeds()]
        for name in (str(folder), MODEL_ID)
    )
    for output in outputs_of(on_folder, on_hub, folder, tmp_path):
        assert output.count("[Memory updated]") == 2


def outputs_of(on_folder: list[str], on_hub: list[str], folder: Path, home: Path) -> list[str]:
    """Run programs with the hub at hand, then those of the hub without it."""
    with serve({MODEL_ID: folder}) as endpoint:
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
        outputs = run(*on_folder, *on_hub, **hub)
    outputs += run(*on_hub, **hub, HF_HUB_OFFLINE="1")
    assert len(outputs) == len(on_folder) + 2 * len(on_hub)
    return outputs


def test_a_pushed_model_arrives_whole(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`push_to_hub` is the hub client's; what it is handed to upload is a folder that loads."""
    uploads: dict[str, Path] = {}

    def upload_folder(self: object, *, repo_id: str, folder_path: Path, **_: object) -> str:
        target = tmp_path / "uploaded"
        Path(folder_path).rename(target)
        uploads[repo_id] = target
        return "url"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, repo_id, **_: RepositoryUrl(repo_id))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    model = RxTAlpha.from_pretrained(folder)
    model.push_to_hub(MODEL_ID)

    again = RxTAlpha.from_pretrained(uploads[MODEL_ID])
    assert all((mine == theirs).all() for mine, theirs in zip(model.parameters(), again.parameters(), strict=True))
    assert again.tokenizer is not None


def test_an_option_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="private only means something with push_to_hub=True"):
        tiny_text_model().save_pretrained(tmp_path / "model", private=True)
    assert not (tmp_path / "model").exists()


class RepositoryUrl:
    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id


def test_a_name_that_is_neither_a_folder_nor_an_id_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    for name, said in {
        "no model": "'no model' is neither a folder on this machine nor a model id",
        "./no/such/folder": r"There is no folder \./no/such/folder\.",
        "runs/retention/model": r"There is no folder runs/retention/model\.",
        "./runs/quikstart": r"There is no folder \./runs/quikstart \(did you mean runs/quickstart\?\)\.",
        "runs/quikstart": r"'runs/quikstart' is no folder on this machine \(did you mean runs/quickstart\?\), and its",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            RxTAlpha.from_pretrained(name, local_files_only=True)


def test_a_missing_repository_and_a_missing_file_are_told_apart(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    program = """
from rxlm.rxt.models import RxTAlpha
try:
    RxTAlpha.from_pretrained("somebody/NAME")
except ValueError as error:
    print(error)
"""
    with serve({"somebody/empty": tmp_path / "empty"}) as endpoint:
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
        empty, other = run(program.replace("NAME", "empty"), program.replace("NAME", "other"), **hub)
    assert "is not there" in empty
    assert "nor a model id that the hub knows" in other


def test_a_beta_folder_loads_as_beta_through_alpha(tmp_path: Path) -> None:
    tiny_text_model(kind=RxTBeta).save_pretrained(tmp_path)

    assert isinstance(RxTAlpha.from_pretrained(tmp_path), RxTBeta)


def test_an_alpha_folder_is_refused_by_beta(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a RxTAlpha, not a RxTBeta"):
        RxTBeta.from_pretrained(folder)

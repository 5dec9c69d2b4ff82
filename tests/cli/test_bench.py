"""`rxlm bench memory` and `rxlm bench compare` from a model's folder to tables, plots and a page."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rxlm.cli import main
from rxlm.cli.bench import _is_run
from text_models import tiny_text_model, tiny_tokenizer

SMALL = ["--turns", "4", "10", "--dialogues", "6", "--max-answer-tokens", "6", "--batch-size", "6"]


@pytest.fixture(scope="module")
def rxt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "little-rxt"
    tiny_text_model(max_seq_len=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "little-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=1024, eos_token_id=3, bos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(rxt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rxt"
    assert main(["bench", "memory", str(rxt), *SMALL, "--output", str(folder)]) == 0
    return folder


def test_a_run_leaves_answers_figures_plots_and_a_page(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    plots = {name for name in names if name.endswith(".png")}

    assert names - plots == {"answers.jsonl", "results.json", "run.json", "report.html"}
    assert {"retention.png", "retention-map.png", "updates.png", "controls.png", "language.png", "cost.png"} <= plots
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in plots)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert set(results["reports"]) == {"retention", "capacity", "updates", "controls", "language", "cost"}
    assert results["reports"]["language"]["embeddings"] == "the model's own"


def test_cost_is_measured_at_the_turns_that_are_named(rxt: Path, tmp_path: Path) -> None:
    words = ["--reports", "cost", "--controls", "--cost-turns", "2", "5", "--output", str(tmp_path / "run")]
    assert main(["bench", "memory", str(rxt), *SMALL, *words]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["reports"]["cost"]["turns"] == [2, 5]


def test_the_worth_of_history_is_measured_where_it_is_named(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--reports", "worth", "--history", "tokens:24", "--output", str(tmp_path / "run")]
    assert main(["bench", "memory", str(llama), *SMALL, *words]) == 0

    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"worth.jsonl", "worth.png", "report.html", "results.json"} <= names
    assert "worth of history: recovered shares" in " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["reports"]["worth"]
    assert report["arms"]["everything"] == "full-history"


def test_the_page_holds_everything_in_itself(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")

    assert page.count("data:image/png;base64,") == len(list(run.glob("*.png")))
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    for text in ("little-rxt", "memory gain", "never told", "little-rxt", "words of rxlm.data.words"):
        assert text in page


def test_a_finished_run_shows_its_tables_again(run: Path, rxt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "answers.jsonl").read_bytes()
    assert main(["bench", "memory", str(rxt), *SMALL, "--output", str(run), "--reports", "controls"]) == 0

    assert (run / "answers.jsonl").read_bytes() == before
    assert "memory gain" in capsys.readouterr().out
    assert len(json.loads((run / "results.json").read_text(encoding="utf-8"))["reports"]) == 6, "the others are kept"


def test_another_seed_in_the_same_folder_is_refused(run: Path, rxt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "memory", str(rxt), *SMALL, "--output", str(run), "--seed", "1"]) == 1
    assert "holds a run of another configuration (data.checksum is" in capsys.readouterr().err


def test_models_and_runs_are_compared_in_one_table_and_one_plot(
    run: Path, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL, "--controls", "empty", "--reports", "retention", "controls", "--history", "turns:2"]
    assert main(["bench", "compare", str(run), str(llama), *options, "--output", str(tmp_path)]) == 0
    output = capsys.readouterr().out

    assert "little-rxt" in output
    assert "turns-2" in output
    assert (tmp_path / "comparison.png").is_file()
    assert "data:image/png" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert (tmp_path / "little-llama-turns-2" / "results.json").is_file()


def test_windows_are_compared_by_what_they_recover(llama: Path, tmp_path: Path) -> None:
    runs = []
    for window in ("tokens:24", "turns:1"):
        runs.append(str(tmp_path / window.replace(":", "-")))
        words = ["--reports", "worth", "--history", window, "--output", runs[-1]]
        assert main(["bench", "memory", str(llama), *SMALL, *words]) == 0

    assert main(["bench", "compare", *runs, "--output", str(tmp_path / "both")]) == 0
    page = (tmp_path / "both" / "comparison.html").read_text(encoding="utf-8")
    assert "nats a token from everything" in page


def test_runs_on_other_dialogues_are_not_compared(
    run: Path, rxt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--turns", "4", "--dialogues", "4", "--reports", "retention", "--max-answer-tokens", "4"]
    assert main(["bench", "compare", str(run), str(rxt), *options, "--output", str(tmp_path)]) == 1
    assert "cannot be compared: their data differ" in capsys.readouterr().err


def test_the_audit_needs_no_model_and_fails_where_the_scorer_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", "memory", "--audit", "--turns", "6", "--dialogues", "5"]) == 0
    assert "100.00% of the gold answers" in capsys.readouterr().out

    monkeypatch.setattr("rxlm.mrq_bench.scoring.ValueScorer.grade", lambda *_: None)
    assert main(["bench", "memory", "--audit", "--turns", "6", "--dialogues", "5"]) == 1
    assert "fail the audit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name a model"),
        (["RXT", "--history", "turns:3"], "history and template are for stateless models"),
        (["RXT", "--controls", "full-history"], "control must be one of none, empty, shuffled, never-updated"),
        (["RXT", "--data", "babi", "--source", "no/such/folder"], "no/such/folder"),
        (["no/such/model"], "no/such/model"),
    ],
)
def test_what_cannot_be_measured_is_explained(
    arguments: list[str], message: str, rxt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(rxt) if word == "RXT" else word for word in arguments]
    assert main(["bench", "memory", *words, "--dialogues", "3", "--output", str(tmp_path / "run")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history", "some"], "history must be full, none, turns:N or tokens:N"),
        (["--data", "babi"], "data 'babi' needs a source"),
        (["--tasks", "1", "6"], "tasks means something for babi only"),
        (["--cost-turns", "0"], "cost_turns must be numbers of turns, from 1"),
    ],
)
def test_options_that_make_no_sense_are_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "memory", "some/model", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_one_model_is_not_a_comparison(rxt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", str(rxt)]) == 1
    assert "Name two models or more" in capsys.readouterr().err


def test_half_a_command_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2
    assert "rxlm bench memory" in capsys.readouterr().err


def test_a_folder_of_training_is_a_model_and_one_of_the_benchmark_a_run(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")  # `rxlm train` writes one, too
    assert not _is_run(str(tmp_path))

    (tmp_path / "answers.jsonl").write_text("")
    assert _is_run(str(tmp_path))


def test_a_model_that_is_not_there_is_told_before_others_are_measured(
    rxt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rxlm.cli.bench.measure", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("rxlm.cli.bench.load_data", lambda *_: pytest.fail("read"))
    assert main(["bench", "compare", str(rxt), "./nothere", "--output", str(tmp_path / "out")]) == 1
    assert "There is no folder ./nothere." in capsys.readouterr().err
    assert main(["bench", "compare", str(rxt), "./nothere.gguf", "--output", str(tmp_path / "out")]) == 1
    assert "There is no GGUF file nothere.gguf" in capsys.readouterr().err
    assert main(["bench", "memory", str(rxt), "--embeddings", "./nothere", "--output", str(tmp_path / "out")]) == 1
    assert "There is no folder ./nothere." in capsys.readouterr().err


def test_options_that_mean_nothing_for_the_model_are_refused_before_work(
    rxt: Path, llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rxlm.cli.bench.load_data", lambda *_: pytest.fail("read"))
    assert main(["bench", "memory", str(llama), "--memory-tokens", "64"]) == 1
    assert "memory_tokens is for a memory of tokens" in capsys.readouterr().err
    assert main(["bench", "memory", str(rxt), "--history", "none"]) == 1
    assert "history and template are for stateless models" in capsys.readouterr().err

"""Benchmarks can be run, write their figures in one form, and what changed between two runs is told from noise."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rxlm.data.small_talk import chatter
from rxlm.data.world_questions import world_questions
from rxlm.folders import MARKER

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture(autouse=True)
def among_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))  # they share plots and records


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Any:
    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported(name: str, loaded: Any) -> None:
    assert loaded(name).__doc__


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_written_in_one_form(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    if name not in ("records", "compare", "readme_picture"):  # the form itself, its reader, a picture of the log's
        assert ("__main__" in source) == ("Record(" in source)
        assert "write_text(json" not in source


def test_a_benchmark_writes_machine_versions_settings_and_samples(tmp_path: Path, loaded: Any) -> None:
    attention = loaded("attention")
    small = {"dim": 16, "num_heads": 4, "num_layers": 1, "ff_dim": 16, "window": 0, "rounds": 2}
    settings = attention.Settings(tokens=(8,), model_tokens=(8,), variants=("mha", "sqa"), output=tmp_path, **small)
    attention.main(settings)

    values = json.loads((tmp_path / "attention.json").read_text(encoding="utf-8"))
    assert values["machine"]["threads"] >= 1
    assert {"rxlm", "commit", "python", "torch", "transformers"} <= values["versions"].keys()
    assert values["settings"]["num_heads"] == 4
    assert "output" not in values["settings"]
    ratio = values["figures"]["one attention layer/forward/8/sqa, beside mha"]
    assert (len(ratio["samples"]), ratio["better"], ratio["kind"]) == (2, "more", "ratio")
    compare = loaded("compare")
    assert compare.main(compare.Settings(old=tmp_path, new=tmp_path)) == 0


def test_a_long_benchmark_goes_on_and_does_not_mix_settings(tmp_path: Path, loaded: Any) -> None:
    records = loaded("records")
    small, large = (loaded("compare").Settings(old=Path(size), new=Path("b")) for size in ("small", "large"))
    assert records.Record(tmp_path / "long.json", small).keep("part", lambda: [1, 2]) == [1, 2]

    assert records.Record(tmp_path / "long.json", small).keep("part", lambda: pytest.fail("again")) == [1, 2]
    with pytest.raises(ValueError, match="other settings"):
        records.Record(tmp_path / "long.json", large)


def test_a_damaged_file_is_named(tmp_path: Path, loaded: Any) -> None:
    settings, path = loaded("compare").Settings(old=Path("a"), new=Path("b")), tmp_path / "long.json"
    for text, says in (("{", "is not JSON"), ("[]", "holds a list"), ('{"kept": []}', "is not what a benchmark wrote")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"long.json {says}"):
            loaded("records").Record(path, settings)


@pytest.mark.parametrize("named", [str, Path])
def test_what_was_measured_elsewhere_is_told_and_what_of_another_model_refused(
    named: type[Any], tmp_path: Path, loaded: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records, model, path = loaded("records"), tmp_path / "model", tmp_path / "long.json"
    model.mkdir()
    (model / MARKER).write_text("{}")
    settings = argparse.Namespace(model=named(model), output=tmp_path)
    records.Record(path, settings).keep("part", lambda: 1)
    assert capsys.readouterr().out == "part measured\n"

    monkeypatch.setattr(records, "versions", lambda: {"commit": "other"})
    assert records.Record(path, settings).keep("part", lambda: 2) == 1
    assert "part is not measured again: it was with rxlm " in capsys.readouterr().out
    (model / MARKER).write_text('{"trained": "anew"}')
    with pytest.raises(ValueError, match=f"long.json was measured before {model} was changed"):
        records.Record(path, settings)


def test_numbers_that_measure_nothing_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], loaded: Any
) -> None:
    for words, says in (("--tokens 1", "at least 2, got 1"), ("--repeats 0", "at least 1, got 0"), ("--rows x", "'x'")):
        monkeypatch.setattr(sys, "argv", ["engines.py", "model", *words.split()])
        with pytest.raises(SystemExit, match="2"):
            loaded("engines").main()
        assert says in capsys.readouterr().err


def test_questions_about_the_world_are_not_those_of_training(loaded: Any) -> None:
    learnt = {wording.query for wording in (*world_questions(), *chatter("full"))}
    assert not learnt & loaded("upcycled_ability").WORLD.keys()


def figure(*samples: float, kind: str = "ratio", better: str | None = "more") -> dict[str, Any]:
    return {"samples": list(samples), "unit": "", "better": better, "kind": kind}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (figure(2.0, 2.0), figure(2.08, 2.08), "same"),  # what runs differ by anyway
        (figure(2.0, 2.0), figure(2.2, 2.2), "better"),
        (figure(2.0, 2.0), figure(1.8, 1.8), "worse"),
        (figure(2.0, 2.0, better="less"), figure(1.8, 1.8, better="less"), "better"),
        (figure(2.0, 2.0, better=None), figure(1.8, 1.8, better=None), "changed"),
        (figure(1.0, 2.0, 3.0), figure(1.5, 2.5, 3.5), "same"),  # samples that differ this much say no more
        (figure(*[1.9, 2.0, 2.1] * 5), figure(*[2.4, 2.5, 2.6] * 5), "better"),
        (figure(9.0, kind="measured"), figure(10.0, kind="measured"), "same"),
        (figure(9.0, kind="measured"), figure(11.0, kind="measured"), "better"),
        (figure(100, kind="exact", better="less"), figure(101, kind="exact", better="less"), "worse"),
        (figure(100, kind="exact"), figure(100, kind="exact"), "same"),
        (figure(0.0, better="less"), figure(0.1, better="less"), "worse"),
        (figure(0.0), figure(0.0), "same"),
    ],
)
def test_a_change_is_told_from_noise(before: dict[str, Any], after: dict[str, Any], verdict: str, loaded: Any) -> None:
    assert loaded("compare").change("figure", before, after).verdict == verdict


def record(threads: int = 1, **figures: dict[str, Any]) -> dict[str, Any]:
    machine = {"processor": "one", "cores": 2, "gpu": None, "threads": threads, "load": 0.1}
    return {"benchmark": "some", "machine": machine, "versions": {}, "settings": {}, "figures": figures}


def test_seconds_are_compared_on_one_machine_only(loaded: Any) -> None:
    compare = loaded("compare")
    old = record(ratio=figure(2.0), seconds=figure(9.0, kind="measured"))
    other = record(threads=2, ratio=figure(1.0), seconds=figure(1.0, kind="measured"))

    assert [each.name for each in compare.compare(old, other)] == ["ratio"]
    assert any("not compared" in note for note in compare.notes(old, other))
    assert [each.name for each in compare.compare(old, old)] == ["ratio", "seconds"]


def test_the_status_says_that_something_got_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loaded: Any
) -> None:
    compare, files = loaded("compare"), (tmp_path / "old.json", tmp_path / "new.json")
    for file, value in zip(files, (2.0, 1.0), strict=True):
        file.write_text(json.dumps(record(speed=figure(value), **{f"only in {file.stem}": figure(1.0)})))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "other.json").write_text("[]")

    assert compare.main(compare.Settings(old=files[0], new=files[1])) == 1
    output = capsys.readouterr().out
    assert "worse" in output
    assert "gone: only in old" in output
    assert compare.main(compare.Settings(old=files[1], new=files[0])) == 0
    with pytest.raises(ValueError, match="no figures of a benchmark"):
        compare.main(compare.Settings(old=files[0], new=tmp_path / "none"))


def test_other_settings_are_compared_where_this_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loaded: Any
) -> None:
    compare, files = loaded("compare"), (tmp_path / "old.json", tmp_path / "new.json")
    for file, tokens in zip(files, (1, 2), strict=True):
        file.write_text(json.dumps(record(speed=figure(2.0)) | {"settings": {"tokens": tokens}}))

    assert compare.main(compare.Settings(old=files[0], new=files[1])) == 1
    output = capsys.readouterr().out
    assert "0 of 0 figures changed" in output
    assert "tokens 1 -> 2" in output
    assert "--any-settings" in output
    assert compare.main(compare.Settings(old=files[0], new=files[1], any_settings=True)) == 0
    assert "0 of 1 figures changed" in capsys.readouterr().out


def test_json_that_is_nested_too_deeply_is_named(tmp_path: Path, loaded: Any) -> None:
    compare, file = loaded("compare"), tmp_path / "deep.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no JSON: it is nested too deeply"):
        compare.records(file)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"figures": {"speed": figure(2.0, float("nan"))}}, r"new.json: samples of speed must be finite numbers"),
        ({"figures": {"speed": figure()}}, r"samples of speed must be finite numbers, got \[\]"),
        ({"figures": {"speed": figure(True)}}, r"samples of speed must be finite numbers, got \[True\]"),
        ({"figures": {"speed": figure(10**400)}}, r"samples of speed must be finite numbers"),
        ({"figures": {"speed": {"samples": [1.0]}}}, r'kind of speed must be one of "ratio", .*, got None'),
        ({"figures": {"speed": figure(1.0) | {"kind": []}}}, r"kind of speed must be one of .*, got \[\]"),
        ({"figures": {"speed": figure(1.0, better="most")}}, r'better of speed .* "more", "less", null, got \'most\''),
        ({"figures": {"speed": figure(1.0) | {"unit": 1}}}, r"unit of speed must be a str, got 1"),
        ({"figures": []}, r"figures must be a dict, got \[\]"),
        ({"machine": None}, r"machine must be a dict, got None"),
        ({"benchmark": "another"}, r"one is of some, the other of another"),
    ],
)
def test_what_cannot_be_compared_is_named(changes: dict[str, Any], says: str, tmp_path: Path, loaded: Any) -> None:
    compare, files = loaded("compare"), (tmp_path / "old.json", tmp_path / "new.json")
    for file, values in zip(files, (record(speed=figure(2.0)), record(speed=figure(2.0)) | changes), strict=True):
        file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=says):
        compare.main(compare.Settings(old=files[0], new=files[1]))
    files[1].write_text(files[1].read_text()[:-9])
    with pytest.raises(ValueError, match=r"new.json is no JSON"):
        compare.main(compare.Settings(old=files[0], new=files[1]))


def test_a_comparison_of_nothing_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], loaded: Any) -> None:
    compare, folders = loaded("compare"), (tmp_path / "old", tmp_path / "new")
    other_unit = {**figure(2000.0), "unit": "ms"}
    for folder, values in zip(folders, (record(speed=figure(2.0)), record(speed=other_unit)), strict=True):
        folder.mkdir()
        (folder / "some.json").write_text(json.dumps(values))
    (folders[0] / "gone.json").write_text(json.dumps(record(**{"[/red]": figure(2.0)})))
    assert compare.main(compare.Settings(old=folders[0], new=folders[1])) == 1
    output = capsys.readouterr().out
    assert "of another unit or kind, not compared: speed" in output
    assert "alone: gone.json" in output.replace("\n", "")
    settings = compare.Settings(old=folders[0] / "gone.json", new=folders[0] / "gone.json", all=True)
    assert compare.main(settings) == 0
    assert "[/red]" in capsys.readouterr().out

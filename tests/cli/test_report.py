"""`rxlm report` writes one page, of a run or of several, and prints where it is."""

from pathlib import Path

import pytest

from html_pages import Reader
from logged_runs import record, write_run
from rxlm.cli import main


def small_run(folder: Path) -> Path:
    return write_run(folder, {"1-language": [record(step, loss=1 / step) for step in (1, 2, 3)]})


def test_a_run_is_reported_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run")

    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert Reader((run / "report.html").read_text(encoding="utf-8")).texts["h1"] == ["Run run"]
    assert (run / "report" / "losses.png").is_file()


def test_several_runs_are_compared_beside_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = small_run(tmp_path / "one"), small_run(tmp_path / "two")

    assert main(["report", str(one), str(two)]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "comparison.html"
    assert Reader(path.read_text(encoding="utf-8")).texts["h1"] == ["Runs one, two"]


def test_the_page_goes_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, page = small_run(tmp_path / "run"), tmp_path / "pages" / "mine.html"

    assert main(["report", str(run), "--output", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name the folder of a run"),
        (["nothing/here"], "There is no folder nothing/here. A run's folder has recipe.json"),
        (["."], "is not a run. A run's folder has recipe.json"),
        (["run", "."], "is not a run. A run's folder has recipe.json"),
        (["run", "--output", "page.pdf"], "must be a file that ends with .html, got page.pdf"),
    ],
)
def test_a_report_that_cannot_be_written_is_explained(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    small_run(Path("run"))

    assert main(["report", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(Path().glob("**/*.html")) == []

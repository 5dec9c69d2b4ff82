"""The report of a run shows its results and whatever it logged, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from html_pages import Reader
from logged_runs import RECIPE, RESULTS, dialogue_records, record, write_run
from rxlm.reporting.plots import DOTS_PER_INCH
from rxlm.reporting.report import write_report


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def test_the_tables_are_those_of_the_results(tmp_path: Path) -> None:
    reader = read(write_report(write_run(tmp_path / "run", {})))
    table, conversation = reader.tables()

    assert table == [RESULTS["tables"][0]["header"], *RESULTS["tables"][0]["rows"]]
    assert conversation[1:] == RESULTS["conversation"]
    assert reader.texts["caption"][0] == RESULTS["tables"][0]["title"]
    assert RESULTS["tables"][0]["note"] in reader.texts["p"]


def test_each_kind_of_figure_has_a_chart_on_the_page_and_as_a_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    reader = read(write_report(folder))
    files = {path.name: path for path in (folder / "report").iterdir()}

    assert set(files) == {
        "losses.png", "accuracy.png", "gradients.png", "gates.png", "memory_drift.png", "learning_rate.png",
        "tokens_per_second.png",
    }  # fmt: skip
    assert len(reader.attributes("img")) == len(files)
    for path in files.values():
        image = Image.open(path)
        assert image.format == "PNG"
        assert image.width == 7 * DOTS_PER_INCH
        assert len(set(image.convert("L").tobytes())) > 10


def test_the_picture_on_the_page_is_the_file(tmp_path: Path) -> None:
    import base64

    folder = write_run(tmp_path / "run", {"1-language": [record(1, loss=1.0)]})
    (image,) = read(write_report(folder)).attributes("img")

    assert base64.b64decode(str(image["src"]).partition(",")[2]) == (folder / "report" / "losses.png").read_bytes()


def test_a_figure_is_drawn_for_each_stage_that_logged_it(tmp_path: Path) -> None:
    stages = {"1-language": [record(1, loss=2.0)], "2-interactions": [record(1, loss=1.0, learning_rate=0.1)]}
    alts = [image["alt"] for image in read(write_report(write_run(tmp_path / "run", stages))).attributes("img")]

    assert alts == [
        "Line charts against the step. 1-language: total loss; 2-interactions: total loss.",
        "Line charts against the step. 2-interactions: learning rate.",
    ]


def test_a_total_that_is_its_only_part_is_drawn_once(tmp_path: Path) -> None:
    same = {"4-dialogues": [record(1, loss=2.0, answer_loss=2.0, answer_loss_empty=3.0)]}
    reader = read(write_report(write_run(tmp_path / "run", same)))

    assert "4-dialogues: answer loss, answer loss, empty memory." in str(reader.attributes("img")[0]["alt"])


def test_figures_nobody_foresaw_are_drawn_too(tmp_path: Path) -> None:
    records = [record(step) | {"novelty/bleu": 0.1, "novelty/length": 3.0, "surprise": 0.01} for step in (1, 2)]
    folder = write_run(tmp_path / "run", {"5-rewards": records})
    (image,) = read(write_report(folder)).attributes("img")

    assert (folder / "report" / "other.png").is_file()
    assert str(image["alt"]).endswith("5-rewards: novelty: bleu, length; 5-rewards: shares: surprise.")


def test_figures_of_reinforcement_learning_have_their_charts(tmp_path: Path) -> None:
    names = ("reward", "rewards/exact/mean", "rewards/exact/std", "frac_reward_zero_std", "clip_ratio/low_mean",
             "completions/clipped_ratio", "completions/mean_length", "kl", "policy_consistency", "memory_change",
             "entropy", "value_loss", "explained_variance")  # fmt: skip
    folder = write_run(tmp_path / "run", {"5-mrl": [record(step) | dict.fromkeys(names, 2.0) for step in (1, 2)]})
    alts = [str(image["alt"]) for image in read(write_report(folder)).attributes("img")]

    assert {path.stem for path in (folder / "report").iterdir()} == {
        "rewards", "policy_shares", "policy_change", "entropy", "critic", "lengths",
    }  # fmt: skip
    assert alts[0].endswith("5-mrl: reward: reward; 5-mrl: rewards/exact: mean, std.")


def test_the_stages_are_summed_up(tmp_path: Path) -> None:
    stages = read(write_report(write_run(tmp_path / "run", results=None))).tables()[0]

    assert stages[1] == ["4-dialogues", "40 of 40", "0.076", "0.076", "2.000", "0.975", "20 s"]


def test_phases_and_recipe_are_told(tmp_path: Path) -> None:
    reader = read(write_report(write_run(tmp_path / "run", {"4-dialogues": [record(1, loss=1.0)]})))

    expected = "Phases of 4-dialogues: to step 10: dialogues of 2 turns; to step 40: streams, 4 turns at a time."
    assert expected in reader.texts["p"]
    assert f'"name": "{RECIPE["name"]}"' in reader.texts["pre"][0]


def test_what_spoils_figures_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"1-language": [record(1, loss=float("nan")), record(2, loss=1.0)]})
    with (folder / "1-language" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo{"step": 4, "loss": 1.0}\n')
    paragraphs = read(write_report(folder)).texts["p"]

    assert "1-language: loss is not a finite number at 1 of 3 logged steps, first at step 1." in paragraphs
    assert any(text.startswith("1-language: broken lines of the log, left out: 1.") for text in paragraphs)


@pytest.mark.parametrize("parts", [{"stages": {}}, {"recipe": None}, {"results": None}, {"recipe": {}, "results": {}}])
def test_a_run_is_reported_as_far_as_it_got(tmp_path: Path, parts: dict[str, Any]) -> None:
    parts = {"stages": {"1-language": [record(1, loss=1.0)]}} | parts

    assert read(write_report(write_run(tmp_path / "run", **parts))).texts["h1"] == ["Run run"]


def test_a_report_is_the_same_when_it_is_written_again(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"1-language": dialogue_records([1, 2])})
    first = write_report(folder).read_bytes()

    assert write_report(folder).read_bytes() == first


def test_the_page_and_its_pictures_go_where_they_are_asked_to(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"1-language": [record(1, loss=1.0)]})
    path = write_report(folder, tmp_path / "elsewhere" / "first.html")

    assert path == tmp_path / "elsewhere" / "first.html"
    assert (tmp_path / "elsewhere" / "first" / "losses.png").is_file()
    assert not (folder / "report").exists()
    with pytest.raises(ValueError, match=r"ends with \.html, got .*first\.pdf"):
        write_report(folder, tmp_path / "first.pdf")

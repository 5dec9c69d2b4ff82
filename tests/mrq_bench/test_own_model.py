"""A model of one's own: the example of docs/benchmark.md runs, and what a model lacks is named before any work."""

import re
from pathlib import Path

import pytest

from rxlm.mrq_bench.config import BenchmarkConfig
from rxlm.mrq_bench.protocol import check_respondent
from rxlm.mrq_bench.results import measure

PAGE = Path(__file__).parents[2] / "docs" / "benchmark.md"


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Your own model")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace("turns=(16,)", "turns=(16,), dialogues=4"), names)
    results = names["results"]
    assert isinstance(results, dict)
    assert set(results["reports"]) == {"retention", "updates", "controls"}
    assert (tmp_path / "runs" / "bench" / "mine" / "results.json").is_file()


def test_what_a_model_lacks_is_named_before_any_work(tmp_path: Path) -> None:
    class Mine:
        def reset(self, batch_size: int, control: str = "none") -> None:
            raise AssertionError("work has begun")

    config = BenchmarkConfig(reports=("retention",))
    with pytest.raises(TypeError, match="Mine has no controls, describe, cuts, respond; see"):
        measure("mine", Mine(), None, config, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="follow, token_losses, losses, embed, measure"):
        check_respondent(Mine(), answers=True, language=True)

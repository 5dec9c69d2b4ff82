"""`rxlm train` says at its end what the run has lost."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rxlm.cli.train import finish
from rxlm.recipes.run_results import RunResults


@pytest.mark.parametrize(("num_cut", "said"), [(0, False), (1234, True)])
def test_how_many_turns_were_cut_is_told_where_any_was(
    num_cut: int, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rxlm.reporting.report.write_report", lambda folder: folder / "report.html")
    run = SimpleNamespace(
        folder=tmp_path,
        results=lambda model: RunResults(),
        what_next=lambda: "rxlm chat",
        turn_tokenizer=SimpleNamespace(num_cut=num_cut),
        recipe=SimpleNamespace(max_tokens=64),
    )
    console = Console(record=True, width=200)
    finish(run, None, console)  # type: ignore[arg-type]

    line = "1,234 turns that this process read were longer than 64 tokens and were cut."
    assert (line in console.export_text()) == said

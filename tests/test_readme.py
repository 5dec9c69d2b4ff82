"""What README and docs print is true: the tour runs as a reader would run it, and names and links lead somewhere."""

import importlib
import os
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

import rxlm
from process_groups import executed

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- tour -->\n```(bash|python)\n(.*?)```", re.DOTALL)


def test_the_tour_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 5
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    for language, code in blocks:
        if language == "python":
            ended = executed(code)
            assert ended.status == 0, f"{code}\n{ended.output}\n{ended.errors}"
            assert "print(" not in code or ended.output.strip(), f"nothing was printed by:\n{code}"
            continue
        command = ["bash", "-euo", "pipefail", "-c", code]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
        assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKING_PAGES = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "dev/LOG.md"]


def identifier(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", LINKING_PAGES, ids=identifier)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_name_of_the_package_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"\brxlm(?:\.\w+)+", text))
    for module, imported in re.findall(r"^from (rxlm[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}

    assert sorted(name for name in names if not exists(name)) == []


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_source_file_that_a_page_names_is_there(page: Path) -> None:
    paths = re.findall(r"`((?:[\w-]+/)*[\w-]+\.py)`", page.read_text(encoding="utf-8"))
    folders = [
        ROOT,
        ROOT / "src",
        ROOT / "src/rxlm",
        ROOT / "src/rxlm/training",
        ROOT / "src/rxlm/nn",
        ROOT / "src/rxlm/metrics/tensorbleu",
    ]
    folders.append(ROOT / "benchmarks")

    assert [path for path in paths if not any((folder / path).exists() for folder in folders)] == []


def test_the_version_is_the_newest_release_of_the_changelog() -> None:
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert releases[0] == rxlm.__version__


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or what attributes of one lead to."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            attrgetter(".".join(parts[length:]))(found) if length < len(parts) else None
        except AttributeError:
            return False
        return True
    return False

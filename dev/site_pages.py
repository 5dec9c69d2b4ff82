"""Lay out the pages of the documentation site in build/site-pages: docs/, README.md as the start page, the API."""

import posixpath
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build/site-pages"
# Pages of the site that are files elsewhere in the repository.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "dev/LOG.md": "log.md",
}
ROOMS = {
    "rxt": "Models",
    "memory": "Memory",
    "nn": "Layers",
    "llm": "Stateless language models",
    "data": "Data",
    "training": "Training",
    "recipes": "Recipes",
    "mrq_bench": "Benchmark",
    "metrics": "Metrics",
}
# What most users import stands first on its page.
FIRST = ("rxlm.rxt.models", "rxlm.rxt.conversation", "rxlm.rxt.presets", "rxlm.training.trainer", "rxlm.recipes.recipe")
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)")


def relinked(markdown: str, source: str, page: str) -> str:
    """Return `markdown`, whose links are relative to the file `source`, with links relative to the site's `page`."""

    def relink(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        return match[1] + posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(relink, markdown)


def api_page(room: str, title: str) -> str:
    """Return the page of all public modules of a room of src/rxlm."""
    source = ROOT / "src"
    paths = [path for path in (source / "rxlm" / room).rglob("*.py") if not path.name.startswith("_")]
    names = [path.relative_to(source).with_suffix("").as_posix().replace("/", ".") for path in paths]
    names.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return "\n".join([f"# {title}: `rxlm.{room}`\n", *(f"## `{name}`\n\n::: {name}\n" for name in names)])


def main() -> None:
    """Write all pages anew."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(ROOT / "docs", TARGET)
    pages = PAGES | {
        path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
    }
    for source, page in pages.items():
        (TARGET / page).write_text(relinked((ROOT / source).read_text("utf-8"), source, page), "utf-8")
    (TARGET / "api").mkdir()
    for room, title in ROOMS.items():
        (TARGET / f"api/{room}.md").write_text(api_page(room, title), "utf-8")


if __name__ == "__main__":
    main()

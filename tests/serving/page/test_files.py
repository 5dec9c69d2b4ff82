"""The page's files: what a strict Content-Security-Policy needs, and what is said of the third-party ones."""

import hashlib
import re
from pathlib import Path

import rxlm

PAGE = Path(rxlm.__file__).parent / "serving" / "page"
VENDOR = PAGE / "vendor"


def test_the_page_has_no_inline_script_or_style_and_loads_only_its_own_files() -> None:
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", html)
    for address in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert address.startswith("/static/")
        assert (PAGE / address.removeprefix("/static/")).is_file()
    for file in PAGE.glob("*.[jc]s*"):
        assert not re.search(r"https?://(?!www\.w3\.org)|@import|\beval\(|new Function", file.read_text()), file.name


def test_every_module_is_loaded_early_and_small() -> None:
    html = (PAGE / "index.html").read_text()
    modules = {path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*.js")} - {"theme.js", "app.js"}
    assert set(re.findall(r'rel="modulepreload" href="/static/([^"]*)"', html)) == modules
    for file in [*PAGE.glob("*.js"), *PAGE.glob("*.css")]:
        assert len(file.read_text().splitlines()) <= 300, file.name


def test_third_party_files_are_small_licensed_and_unchanged() -> None:
    readme = (VENDOR / "README.md").read_text()
    files = sorted(VENDOR.glob("*.js"))
    assert sum(file.stat().st_size for file in files) < 100_000
    for file in files:
        assert f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" in readme
        assert f"`{file.name}`" in readme
    licences = set(re.findall(r"`(LICENSE-\w+)`", readme))
    assert licences == {file.name for file in VENDOR.glob("LICENSE-*")}

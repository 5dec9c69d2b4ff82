"""A page is one file that needs no other, and says what it was told to say, whatever the text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from html_pages import Reader
from rxlm.reporting.page import Page
from rxlm.reporting.plots import new_figure

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1)


def full_page(text: str = "some text") -> Page:
    page = Page(text)
    for _ in range(4):
        page.heading(text)
    page.text(text)
    page.table([text, "number"], [[text, 1.5]], caption=text)
    page.figure(new_figure(1, 1)[0], caption=text, alt=text)
    page.code(text)
    page.code(text, summary=text)
    return page


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    reader = Reader(full_page().html())
    tags = {tag for tag, _ in reader.elements}

    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    assert all(
        value.startswith("data:image/png;base64,") for image in reader.attributes("img") if (value := image["src"])
    )
    assert all(link["href"].startswith("#") for link in reader.attributes("a") if link["href"])
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert "url(" not in reader.texts["style"][0]
    assert "@import" not in reader.texts["style"][0]


@given(TEXTS)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    reader = Reader(full_page(text).html())

    for tag in ("title", "h1", "p", "caption", "figcaption", "pre", "summary"):
        assert set(reader.texts[tag]) == {text}
    assert set(reader.texts["h2"]) == {text}
    assert reader.texts["td"] == [text, "1.5"]
    assert [image["alt"] for image in reader.attributes("img")] == [text]


def test_markup_in_text_is_no_markup() -> None:
    html = full_page('<script>alert("x")</script> & {title}').html()

    assert "<script" not in html
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; {title}" in html


def test_links_of_the_contents_lead_to_their_headings() -> None:
    page = Page("title")
    for name in ("one", "two", "three", "four"):
        page.heading(name)
    reader = Reader(page.html())

    assert [f"#{heading['id']}" for heading in reader.attributes("h2")] == [a["href"] for a in reader.attributes("a")]
    assert reader.texts["a"] == reader.texts["h2"] == ["one", "two", "three", "four"]


def test_a_table_shows_every_cell_in_its_place() -> None:
    page = Page("title")
    page.table(["name", "count"], [["a", 3], ["b", None], ["c", 0.123456789], ["d", 1234567.891]])
    reader = Reader(page.html())

    assert reader.texts["th"] == ["name", "count"]
    assert reader.texts["td"] == ["a", "3", "b", "", "c", "0.1235", "d", "1,234,568"]


@pytest.mark.parametrize("cell", ["3", "-0.5", "99.1%", "4.7% (1930)", "10 of 1,000", "4 h 18 min", "1e-05", "± 0.2"])
def test_a_column_of_numbers_stands_right_and_one_of_words_left(cell: str) -> None:
    page = Page("title")
    page.table(["words", "numbers"], [["8 turns", cell], ["4-dialogues", ""]])
    classes = [attributes.get("class") for attributes in Reader(page.html()).attributes("td")]

    assert classes == [None, "number", None, "number"]


def test_a_row_that_does_not_fit_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="Row 1 of the table has 1 cells, its header 2"):
        Page("title").table(["a", "b"], [[1, 2], [3]])


def test_a_written_page_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    Page("first").write(path)
    Page("second").write(path)

    assert path.read_text(encoding="utf-8") == Page("second").html()
    assert list(path.parent.iterdir()) == [path]

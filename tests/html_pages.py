"""Reads HTML pages, and refuses those whose elements are not closed in order."""

from html.parser import HTMLParser

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the texts by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def tables(self) -> list[list[list[str]]]:
        """Return the tables of the page: their rows, the header first."""
        tables: list[list[list[str]]] = []
        cells = {tag: iter(self.texts.get(tag, [])) for tag in ("th", "td")}
        for tag, _ in self.elements:
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append([])
            elif tag in cells:
                tables[-1][-1].append(next(cells[tag]))
        return tables

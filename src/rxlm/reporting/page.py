"""One self-contained HTML page: no scripts, nothing loaded from elsewhere, light or dark as the reader's system is."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rxlm.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY_HEADINGS = 4
LONG_CELL = 20
NUMBER = re.compile(
    r"[-+±<>~]? ?[\d.,]+(e[-+]?\d+)?( ?%| (ms|s|min|h \d+ min))?( (of|±) [\d.,]+%?)?( [(\[].*[)\]])?|nan|-?inf"
)
"""A number in a cell, perhaps with its unit, its total, its margin, or a remark in brackets."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fdfdfc; --soft: #5c5c5c; --line: #d8d8d4; --tint: #f1f1ee;
  --link: #0b5c94; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --paper: #17181a; --soft: #a5a5a0; --line: #3a3b3e;
  --tint: #222326; --link: #7cc0f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
p, figcaption, caption { max-width: 46rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 0; padding: 0; list-style: none; }
figure { margin: 1rem 0 2rem; }
img { display: block; max-width: 100%; height: auto; background: white; border: 1px solid var(--line);
  border-radius: 4px; }
figcaption, caption { color: var(--soft); font-size: 0.92rem; text-align: left; }
figcaption { margin-top: 0.5rem; }
.wide { overflow-x: auto; margin: 1rem 0 1.5rem; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { padding-bottom: 0.4rem; }
th, td { padding: 0.3rem 0.75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--tint); white-space: nowrap; }
td:first-child { min-width: 8rem; }
.text { min-width: 10rem; }
.number { text-align: right; white-space: nowrap; }
pre { overflow: auto; max-height: 32rem; padding: 0.75rem 1rem; background: var(--tint); border-radius: 4px;
  font: 0.85rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
summary { cursor: pointer; color: var(--link); }
@media print {
  :root { --ink: black; --paper: white; --soft: #444; --line: #ccc; --tint: #f4f4f4; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  h2, caption { break-after: avoid; }
  table { font-size: 8pt; }
  th, td { padding: 0.2rem 0.4rem; white-space: normal; }
  .wide, pre { overflow: visible; max-height: none; }
  pre { white-space: pre-wrap; }
  nav { display: none; }
}
"""

DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{contents}{body}
</body>
</html>
"""


class Page:
    """A page that grows from top to bottom; all text is escaped.

    Args:
        title: of the document, and its first heading.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []
        self._headings: list[str] = []

    def heading(self, text: str) -> None:
        """Begin a section; a page of several lists them at its top."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="section-{len(self._headings)}">{escape(text)}</h2>')

    def text(self, paragraph: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(paragraph)}</p>")

    def link(self, text: str, target: str) -> None:
        """Add a link to another page, in a paragraph of its own."""
        self._parts.append(f'<p><a href="{escape(quote(target))}">{escape(text)}</a></p>')

    def table(self, header: Sequence[Any], rows: Sequence[Sequence[Any]], caption: str | None = None) -> None:
        """Add a table; columns of numbers are aligned right, None is an empty cell, and long fractions are rounded.

        Raises `ValueError` where a row has not as many cells as the header.
        """
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(f"Row {number} of the table has {len(row)} cells, its header {len(header)}: {row!r}.")
        texts = [[_cell_text(cell) for cell in row] for row in rows]
        kinds = [_kind([row[column] for row in texts]) for column in range(len(header))]
        lines = ["<table>", f"<caption>{escape(caption)}</caption>" if caption else ""]
        lines += ["<thead>", _row("th", [_cell_text(cell) for cell in header], kinds), "</thead>", "<tbody>"]
        lines += [_row("td", row, kinds) for row in texts]
        lines += ["</tbody>", "</table>"]
        body = "\n".join(filter(None, lines))
        self._parts.append(f'<div class="wide" tabindex="0">\n{body}\n</div>')

    def figure(self, figure: "Figure", caption: str, alt: str) -> bytes:
        """Add a figure as a PNG inside the page, and return the PNG, for a file of its own.

        Args:
            caption: what one should see, and what would be wrong.
            alt: what the picture shows, for those who cannot see it.
        """
        from rxlm.reporting.plots import png_bytes  # matplotlib is slow to import, and a page may have no figure

        png = png_bytes(figure)
        data = base64.b64encode(png).decode("ascii")
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'
        self._parts.append(f"<figure>\n{image}\n<figcaption>{escape(caption)}</figcaption>\n</figure>")
        return png

    def code(self, text: str, summary: str | None = None) -> None:
        """Add text as it is, such as a configuration; with a summary only that is shown until the reader opens it."""
        block = f"<pre>{escape(text)}</pre>"
        if summary is not None:
            block = f"<details>\n<summary>{escape(summary)}</summary>\n{block}\n</details>"
        self._parts.append(block)

    def html(self) -> str:
        """Return the whole page."""
        links = [
            f'<li><a href="#section-{number}">{escape(text)}</a></li>'
            for number, text in enumerate(self._headings, start=1)
        ]
        contents = "<nav><ul>\n" + "\n".join(links) + "\n</ul></nav>\n" if len(links) >= MANY_HEADINGS else ""
        return DOCUMENT.format(title=escape(self.title), style=STYLE, contents=contents, body="\n".join(self._parts))

    def write(self, path: Path) -> None:
        """Write the page to a file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.html())


def _row(tag: str, cells: Sequence[str], kinds: Sequence[str]) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    openings = (f'<{tag}{scope} class="{kind}">' if kind else f"<{tag}{scope}>" for kind in kinds)
    texts = (f"{opening}{escape(cell)}</{tag}>" for opening, cell in zip(openings, cells, strict=True))
    return "<tr>" + "".join(texts) + "</tr>"


def _kind(cells: Sequence[str]) -> str:
    """Return the class of a column: "number", "text" where it needs room to be read, or none."""
    if _is_numeric(cells):
        return "number"
    return "text" if any(len(cell) > LONG_CELL for cell in cells) else ""


def _cell_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and len(str(cell)) > len("0.1234"):
        return f"{cell:,.0f}" if abs(cell) >= 10_000 else f"{cell:.4g}"
    return str(cell)


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(NUMBER.fullmatch(cell) for cell in filled)

"""Drives the page in a browser, and collects what no test may see: errors in the console, requests to other hosts."""

from typing import NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Request, expect

from serving.fake_server import FakeStore

expect.set_options(timeout=8000)

MISPLACED = """(within) => {
    const outer = document.querySelector(within), bad = [];
    if (document.documentElement.scrollWidth > innerWidth) bad.push('the page scrolls sideways');
    if (outer.getBoundingClientRect().width !== innerWidth) bad.push(within + ' does not fill the width');
    for (const element of outer.querySelectorAll('*')) {
        const { left, right, width } = element.getBoundingClientRect();
        if (width === 0 || element.closest('.hidden, pre, table')) continue;
        const scrolls = ['auto', 'scroll'].includes(getComputedStyle(element).overflowX);
        if (left < 0 || right > innerWidth + 0.5 || (scrolls && element.scrollWidth > element.clientWidth))
            bad.push(element.outerHTML.slice(0, 80));
    }
    return bad;
}"""


class Server(NamedTuple):
    """A server with the page: its address without a slash at the end, a key, and the store of the fake one."""

    address: str
    key: str
    store: FakeStore | None


class Driver:
    """One tab."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.server = server
        self.problems: list[str] = []
        self.foreign: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(8000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("blob", "data") and f"{url.scheme}://{url.netloc}" != self.server.address:
            self.foreign.append(request.url)

    def open(self, fragment: str | None = None) -> None:
        """Open the page; the fragment is the printed one, with the key, unless another is given."""
        self.page.goto(f"{self.server.address}/#{f'key={self.server.key}' if fragment is None else fragment}")

    def reload(self) -> None:
        self.page.reload()
        expect(self.box).to_be_visible()

    def say(self, text: str) -> Locator:
        """Send a question and wait until its answer is stored; return the turn."""
        self.box.fill(text)
        self.box.press("Enter")
        return self.answered(text)

    def answered(self, query: str) -> Locator:
        turn = self.page.locator(".turn.last")
        expect(turn.locator(".bubble")).to_have_text(query)
        expect(turn.locator(".answer .markdown").first).not_to_be_empty()
        return turn

    def menu(self, holder: Locator, item: str) -> None:
        """Choose an item of the menu in `holder`."""
        holder.hover()
        holder.locator(".menu > button").click()
        holder.get_by_role("button", name=item, exact=True).click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    @property
    def box(self) -> Locator:
        return self.page.locator("#box")

    @property
    def questions(self) -> Locator:
        return self.page.locator(".turn .bubble")

    @property
    def last(self) -> Locator:
        return self.page.locator(".turn.last")

    @property
    def dialog(self) -> Locator:
        return self.page.locator("dialog")

    @property
    def entries(self) -> Locator:
        return self.page.locator(".entry-title")

    def misplaced(self, within: str) -> list[str]:
        """Return what does not fit: `within` not as wide as the window, or parts of it out of the window's width.

        Code and tables may be wider, where they scroll for themselves.
        """
        return self.page.evaluate(MISPLACED, within)

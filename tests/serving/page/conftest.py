"""A browser for the page's tests, and the server that they drive: the fake one, or the one of RXLM_PAGE_ADDRESS.

    RXLM_PAGE_ADDRESS='http://127.0.0.1:8000/#key=KEY' pytest tests/serving/page

Tests that need foreseeable answers or look into the store take the fixture `fake`, and are skipped with a real server.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from serving.fake_server import KEY, FakeStore, serve
from serving.page.driver import Driver, Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for this folder. Playwright keeps an event loop running, so it must end with the folder."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def memory() -> str:
    """Which memory the fake server's model has."""
    return "retained"


@pytest.fixture
def server(memory: str) -> Iterator[Server]:
    """A server with the page."""
    address, _, key = os.environ.get("RXLM_PAGE_ADDRESS", "").partition("/#key=")
    if address:
        yield Server(address, key, None)
        return
    with serve(memory) as (address, store):
        yield Server(address, KEY, store)


@pytest.fixture
def fake(server: Server) -> FakeStore:
    """The store of the fake server."""
    if server.store is None:
        pytest.skip("needs the fake server's answers")
    return server.store


@pytest.fixture
def new_tab_at(browser: Browser) -> Iterator[Callable[[Server], Driver]]:
    """Opens an empty tab of a new browser profile; the test fails where the page wrote an error or left the host."""
    tabs: list[Driver] = []
    with ExitStack() as opened:

        def new(server: Server) -> Driver:
            context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
            opened.callback(context.close)
            tabs.append(Driver(context, server))
            return tabs[-1]

        yield new
    for tab in tabs:
        assert tab.foreign == []
        assert tab.problems == []


@pytest.fixture
def new_tab(new_tab_at: Callable[[Server], Driver], server: Server) -> Driver:
    """An empty tab."""
    return new_tab_at(server)


@pytest.fixture
def tab(new_tab: Driver) -> Driver:
    """A tab with the page opened by its printed address."""
    new_tab.open()
    expect(new_tab.page.locator(".welcome h1")).to_be_visible()
    return new_tab

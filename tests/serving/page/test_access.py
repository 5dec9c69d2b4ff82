"""The page: errors in plain words, phone width, and use with the keyboard alone."""

from playwright.sync_api import Route, expect

from serving.fake_server import FakeStore
from serving.page.driver import Driver


def refusal(status: int, message: str, **headers: str):
    error = {"error": {"message": message, "type": "error", "param": None, "code": "error"}}
    return lambda route: route.fulfill(
        status=status, json=error, headers={"Content-Type": "application/json", **headers}
    )


def test_without_a_key_the_page_asks_for_one(new_tab: Driver) -> None:
    new_tab.open("")
    expect(new_tab.dialog).to_contain_text("The server needs a key")
    new_tab.dialog.get_by_label("Key").fill(new_tab.server.key)
    new_tab.button("Use this key").click()
    expect(new_tab.page.locator(".welcome h1")).to_be_visible()
    new_tab.reload()
    expect(new_tab.page.locator(".welcome h1")).to_be_visible()


def test_a_wrong_key_is_told_and_asked_for_again(new_tab: Driver) -> None:
    new_tab.open("key=wrong")
    expect(new_tab.dialog).to_contain_text("does not accept the key")
    assert "wrong" not in new_tab.page.url
    new_tab.dialog.get_by_label("Key").fill(new_tab.server.key)
    new_tab.button("Use this key").click()
    expect(new_tab.page.locator(".welcome h1")).to_be_visible()
    assert all("401" in problem for problem in new_tab.problems)
    new_tab.problems.clear()


def test_a_busy_server_tells_when_to_try_again(tab: Driver) -> None:
    tab.say("Hello")
    tab.page.route("**/v1/responses", refusal(429, "too many", **{"Retry-After": "1"}))
    tab.box.fill("More")
    tab.box.press("Enter")
    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text("too much to do at the moment. Try again in 1 second.")
    expect(alert.get_by_role("button", name="Retry")).to_be_disabled()
    tab.page.unroute("**/v1/responses")
    alert.get_by_role("button", name="Retry").click()
    tab.answered("More")
    expect(tab.questions).to_have_count(2)
    tab.problems.clear()


def test_an_error_of_the_server_is_told_and_the_branch_stays(tab: Driver) -> None:
    tab.say("Hello")
    tab.say("More")
    tab.page.route("**/v1/responses", refusal(500, "the model fell over"))
    tab.last.get_by_label("Retry").click()
    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text("The server had an error: the model fell over.")
    tab.page.unroute("**/v1/responses")
    alert.get_by_role("button", name="Dismiss").click()
    expect(tab.questions).to_have_text(["Hello", "More"])
    tab.problems.clear()


def test_a_server_that_is_gone_is_found_again(tab: Driver) -> None:
    tab.say("Hello")
    tab.page.route("**/*", lambda route: route.abort())
    tab.box.fill("Are you there?")
    tab.box.press("Enter")
    expect(tab.page.locator(".notice.problem")).to_contain_text("The server does not answer")
    tab.page.unroute("**/*")
    expect(tab.page.locator(".notice.problem")).to_have_count(0)
    tab.button("Retry").last.click()
    tab.answered("Are you there?")
    tab.problems.clear()


def test_a_stream_that_breaks_off_is_told(tab: Driver) -> None:
    event = 'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "Half an"}\n\n'

    def broken(route: Route) -> None:
        route.fulfill(status=200, body=event, headers={"Content-Type": "text/event-stream"})

    tab.say("Hello")
    tab.page.route("**/v1/responses", broken)
    tab.box.fill("More")
    tab.box.press("Enter")
    expect(tab.page.get_by_role("alert")).to_contain_text("ended the answer before it was complete")
    tab.page.unroute("**/v1/responses")
    tab.button("Retry").last.click()
    tab.answered("More")


def test_a_phone_shows_everything_without_sideways_scrolling(new_tab: Driver) -> None:
    tab = new_tab
    tab.page.set_viewport_size({"width": 360, "height": 740})
    tab.open()
    expect(tab.page.locator(".welcome h1")).to_be_visible()
    assert tab.misplaced("main") == []
    tab.say("A long word: " + "rememberable" * 12)
    tab.say("markdown please")
    tab.last.get_by_label("Retry").click()
    expect(tab.page.locator(".comparison")).to_be_visible()
    assert tab.misplaced("main") == []
    tab.button("Conversations").click()
    expect(tab.entries.first).to_be_in_viewport()
    tab.page.keyboard.press("Escape")
    expect(tab.entries.first).not_to_be_in_viewport()
    tab.button("Memory inspector").click()
    expect(tab.page.locator(".figures")).to_be_visible()
    assert tab.misplaced(".panel") == []
    tab.page.get_by_role("tab", name="Branches").click()
    assert tab.misplaced(".panel") == []
    tab.button("Close the panel").click()
    tab.button("Conversations").click()
    tab.button("Settings").click()
    expect(tab.dialog).to_be_in_viewport(ratio=0.9)


def test_the_whole_path_works_with_the_keyboard_alone(tab: Driver, fake: FakeStore) -> None:
    keys = tab.page.keyboard
    keys.press("Alt+n")
    expect(tab.box).to_be_focused()
    keys.type("My dog is Rex")
    keys.press("Shift+Enter")
    keys.type("and likes balls")
    keys.press("Enter")
    tab.answered("My dog is Rex\nand likes balls")
    keys.press("Escape")
    expect(tab.box).not_to_be_focused()
    keys.press("r")
    expect(tab.page.locator(".comparison")).to_be_visible()
    keys.press("[")
    expect(tab.last.locator(".arrows")).to_contain_text("1 of 2")
    keys.press("m")
    expect(tab.page.get_by_role("tab", name="Memory")).to_be_focused()
    expect(tab.page.locator(".token").first).to_be_visible()
    for _ in range(20):
        keys.press("Tab")
        if tab.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Tokens of Turn 1":
            break
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("Space")
    expect(tab.page.locator(".token.chosen")).to_have_text(" dog")
    keys.press("Escape")
    expect(tab.page.locator(".panel")).to_have_count(0)
    keys.press("?")
    expect(tab.dialog).to_contain_text("Keyboard shortcuts")
    keys.press("Escape")
    expect(tab.dialog).to_have_count(0)
    keys.press("u")
    expect(tab.questions).to_have_count(0)
    keys.press("/")
    expect(tab.box).to_be_focused()


def test_the_focus_is_visible_and_every_button_has_a_name(tab: Driver) -> None:
    tab.say("Hello")
    tab.button("Memory inspector").click()
    expect(tab.page.locator(".figures")).to_be_visible()
    tab.page.evaluate("document.activeElement.blur()")
    names, bare = set(), []
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        name, outline, opacity = tab.page.evaluate(
            """() => { const e = document.activeElement, style = getComputedStyle(e), box = e.closest('.box');
            return [e === document.body ? 'BODY' : e.getAttribute('aria-label') || e.innerText || e.id || e.tagName,
                    (box ? getComputedStyle(box).boxShadow : style.outlineStyle) !== 'none', style.opacity > 0]; }"""
        )
        names.add(name)
        if name != "BODY" and not (outline and opacity):
            bare.append(name)
    assert bare == []
    assert {"New conversation", "box", "Copy the answer", "Close the panel", "Tokens of Turn 1"} <= names
    nameless = "[...document.querySelectorAll('button')].filter((b) => !b.ariaLabel && !b.innerText.trim()).length"
    assert tab.page.evaluate(nameless) == 0

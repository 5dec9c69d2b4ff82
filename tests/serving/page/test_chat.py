"""The page: chat, its list of conversations, and that a reload loses nothing."""

import json
from pathlib import Path

from playwright.sync_api import Route, expect

from serving.fake_server import FakeStore
from serving.page.driver import Driver


def test_a_question_is_answered_and_the_conversation_is_listed(tab: Driver) -> None:
    tab.say("What is a memory?")
    expect(tab.box).to_have_value("")
    expect(tab.box).to_be_focused()
    expect(tab.entries.first).to_have_text("What is a memory?")
    tab.say("And a turn?")
    expect(tab.questions).to_have_count(2)
    assert tab.page.evaluate("location.hash").startswith("#conv_")


def test_markdown_and_thoughts_are_drawn(tab: Driver, fake: FakeStore) -> None:
    turn = tab.say("think in markdown")
    expect(turn.locator("table td").first).to_have_text("cat")
    expect(turn.locator("pre code")).to_contain_text("return 2 * x")
    assert turn.get_by_role("link", name="a link").get_attribute("rel") == "noopener noreferrer nofollow"
    turn.get_by_text("Thought").click()
    expect(turn.get_by_text("The question asks me to think.")).to_be_visible()


def test_an_answer_with_html_stays_harmless(tab: Driver) -> None:
    tab.say("Hello")
    answer = (
        "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> ![picture](https://example.org/a.png)"
        " [go](javascript:window.hacked=3) <a href='https://example.org' onclick='window.hacked = 4' style='top: 0'>"
        "raw</a>\n\n<style>body { display: none }</style>\n\n<iframe src='https://example.org'></iframe>\n\n"
        "<svg onload='window.hacked = 5'>"
    )

    def hostile(route: Route) -> None:
        response = route.fetch()
        tree = response.json()
        for turn in tree["turns"]:
            turn |= {"answer": answer, "thought": answer, "query": answer, "feedback": {"rating": None, "edit": answer}}
        route.fulfill(response=response, json=tree)

    tab.page.route("**/tree", hostile)
    tab.reload()
    expect(tab.last.locator(".answer > .markdown")).to_contain_text("<script>window.hacked = 1</script>")
    for element in ("img", "script", "iframe", "style", "[onclick]", "[style]", "a[href^=javascript]"):
        expect(tab.last.locator(f".answer > .markdown {element}")).to_have_count(0)
    assert tab.page.evaluate("window.hacked") is None


def test_a_reload_loses_nothing(tab: Driver) -> None:
    tab.say("First")
    tab.say("Second")
    tab.box.fill("half a thou")
    tab.questions.first.hover()
    tab.button("Edit the question").first.click()
    tab.page.get_by_label("Edited question").fill("First, edited")
    tab.reload()
    expect(tab.page.get_by_label("Edited question")).to_have_value("First, edited")
    expect(tab.questions).to_have_text(["Second"])
    expect(tab.box).to_have_value("half a thou")
    assert tab.server.key not in tab.page.url
    tab.button("New conversation").click()
    expect(tab.box).to_have_value("")
    tab.box.fill("another draft")
    tab.page.go_back()
    expect(tab.box).to_have_value("half a thou")


def test_an_answer_under_way_at_a_reload_is_cancelled_and_its_question_comes_back(tab: Driver, fake: FakeStore) -> None:
    tab.say("First")
    tab.box.fill("a slow one")
    tab.box.press("Enter")
    expect(tab.page.locator(".live .markdown")).to_contain_text("word3")
    tab.reload()
    expect(tab.box).to_have_value("a slow one")
    expect(tab.questions).to_have_text(["First"])
    tab.page.wait_for_timeout(150)
    assert fake.cancelled == 1
    assert [turn["query"] for turn in fake.turns.values()] == ["First"]


def test_a_retry_under_way_at_a_reload_leaves_the_old_answer(tab: Driver, fake: FakeStore) -> None:
    tab.say("Quick")
    next(iter(fake.turns.values()))["query"] = "slow"
    tab.reload()
    tab.last.get_by_label("Retry").click()
    expect(tab.page.locator(".live .markdown")).to_contain_text("word3")
    tab.reload()
    expect(tab.last.locator(".answer")).to_contain_text("You said: Quick (1)")
    expect(tab.box).to_have_value("")


def test_escape_stops_an_answer_and_nothing_of_it_is_stored(tab: Driver, fake: FakeStore) -> None:
    tab.box.fill("a slow one")
    tab.box.press("Enter")
    expect(tab.page.locator(".live .markdown")).to_contain_text("word3")
    expect(tab.button("Stop the answer")).to_be_visible()
    tab.box.press("Escape")
    expect(tab.page.get_by_role("alert")).to_contain_text("Nothing of this answer is stored")
    tab.button("Edit the question").click()
    expect(tab.box).to_have_value("a slow one")
    tab.say("a quick one")
    assert fake.cancelled == 1
    assert [turn["query"] for turn in fake.turns.values()] == ["a quick one"]


def test_conversations_are_renamed_and_deleted(tab: Driver) -> None:
    tab.say("Delete me")
    tab.button("New conversation").click()
    tab.say("Rename me")
    tab.menu(tab.page.locator(".entry").first, "Rename")
    tab.dialog.get_by_label("Title").fill("A better title")
    tab.dialog.get_by_label("Title").press("Enter")
    expect(tab.entries.first).to_have_text("A better title")
    expect(tab.page.locator("header h1")).to_have_text("A better title")
    tab.menu(tab.page.locator(".entry").nth(1), "Delete")
    expect(tab.dialog).to_contain_text("cannot be undone")
    tab.dialog.get_by_role("button", name="Delete").click()
    expect(tab.entries.get_by_text("Delete me")).to_have_count(0)
    expect(tab.questions).to_have_text(["Rename me"])


def test_older_conversations_are_loaded_on_demand(new_tab: Driver, fake: FakeStore) -> None:
    for number in range(35):
        fake.create({"title": f"Number {number}"})
    new_tab.open()
    expect(new_tab.entries).to_have_count(30)
    new_tab.button("Load more").click()
    expect(new_tab.entries).to_have_count(35)
    expect(new_tab.button("Load more")).to_have_count(0)


def test_a_conversation_is_exported_and_imported(tab: Driver, tmp_path: Path) -> None:
    tab.say("Keep this")
    with tab.page.expect_download() as download:
        tab.menu(tab.page.locator(".entry").first, "Export")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "Keep-this.json"
    assert "Keep this" in json.dumps(json.loads(file.read_text()))
    old = tab.page.url
    tab.page.locator("input[type=file]").set_input_files(file)
    expect(tab.page).not_to_have_url(old)
    expect(tab.questions).to_have_text(["Keep this"])
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    tab.page.locator("input[type=file]").set_input_files(broken)
    expect(tab.page.get_by_role("alert")).to_contain_text("broken.json is not JSON")


def test_settings_are_kept_and_sent(tab: Driver, fake: FakeStore) -> None:
    tab.button("Settings").click()
    expect(tab.dialog.get_by_label("Temperature")).to_have_attribute("placeholder", "0.7")
    tab.dialog.get_by_label("Temperature").fill("0.2")
    tab.dialog.get_by_label("Longest answer").fill("50")
    tab.dialog.get_by_label("Instructions").fill("Be short.")
    tab.dialog.get_by_label("Colours").select_option("dark")
    tab.button("Save").click()
    tab.reload()
    assert tab.page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    tab.say("Hello")
    tab.say("Again")
    first, second = fake.requests
    assert (first["temperature"], first["max_output_tokens"], first["instructions"]) == (0.2, 50, "Be short.")
    assert "top_p" not in first
    assert "instructions" not in second
    tab.page.get_by_text("Instructions").click()
    expect(tab.page.get_by_text("Be short.")).to_be_visible()


def test_light_and_dark_follow_the_system_until_one_is_chosen(tab: Driver) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = tab.page.evaluate(ground)
    tab.page.emulate_media(color_scheme="dark")
    dark = tab.page.evaluate(ground)
    assert light != dark
    tab.button("Light colours").click()
    assert tab.page.evaluate(ground) == light
    tab.reload()
    assert tab.page.evaluate(ground) == light

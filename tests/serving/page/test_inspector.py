"""The page: the memory inspector, for retained memories and for slots."""

import pytest
from playwright.sync_api import expect

from serving.fake_server import FakeStore
from serving.page.driver import Driver


def inspect(tab: Driver, *questions: str) -> None:
    for question in questions:
        tab.say(question)
    tab.button("Memory inspector").click()
    expect(tab.page.locator(".token").first).to_be_visible()


def test_each_token_tells_which_share_of_heads_keeps_it_after_each_turn(tab: Driver) -> None:
    inspect(tab, "My dog is Rex", "He likes balls")
    expect(tab.page.locator(".slider label")).to_have_text("Memory after turn 2 of 2")
    expect(tab.page.locator(".memory-turn h3")).to_have_text(["System prompt", "Turn 1", "Turn 2"])
    token = tab.page.locator(".memory-turn").nth(1).locator(".token", has_text="dog").first
    title = token.get_attribute("title")
    assert title is not None
    assert title.startswith("kept by ")
    assert token.get_attribute("aria-label") == f"dog, {title}"
    expect(tab.page.locator(".figures")).to_contain_text("Size")
    expect(tab.page.locator(".figures")).to_contain_text("took")
    tab.page.locator("#memory-turn").press("ArrowLeft")
    expect(tab.page.locator(".slider label")).to_have_text("Memory after turn 1 of 2")
    expect(tab.page.locator(".memory-turn h3")).to_have_text(["System prompt", "Turn 1"])


def test_a_token_of_the_answer_shows_what_it_read(tab: Driver) -> None:
    inspect(tab, "My dog is Rex", "He likes balls")
    tab.page.get_by_text("What the answer of turn 2 read").click()
    tab.page.locator("#answer-1").click()
    expect(tab.page.locator(".token.read").first).to_be_visible()
    expect(tab.page.locator(".reads li").first).to_contain_text("%")
    tab.page.locator("#answer-1").click()
    expect(tab.page.locator(".token.read")).to_have_count(0)


def test_a_forgotten_turn_is_marked_and_comes_back_with_undo(tab: Driver) -> None:
    inspect(tab, "My dog is Rex", "He likes balls")
    tab.button("Forget this turn").first.click()
    expect(tab.page.get_by_text("Turn 1 was forgotten here")).to_be_visible()
    expect(tab.page.locator(".memory-turn h3").nth(1)).to_have_text("Turn 1 (forgotten)")
    expect(tab.page.locator(".turn").first).to_contain_text("The memory no longer keeps this turn")
    tab.page.locator(".divider").get_by_role("button", name="Undo").click()
    expect(tab.page.get_by_text("Turn 1 was forgotten here")).to_have_count(0)
    expect(tab.page.locator(".memory-turn h3").nth(1)).to_have_text("Turn 1")


def test_selected_words_are_left_out_of_the_memory(tab: Driver, fake: FakeStore) -> None:
    inspect(tab, "My elephant is Rex")
    # A word of two tokens is selected as one.
    tab.page.locator(".token", has_text="elep").first.click()
    expect(tab.page.locator(".token.chosen")).to_have_count(2)
    expect(tab.page.locator(".without")).to_contain_text("1 word selected: elephant")
    tab.button("Answer without these").click()
    expect(tab.page.locator(".without")).to_contain_text("Answer without 2 tokens")
    tab.page.get_by_label("Question", exact=True).fill("Who is Rex?")
    tab.button("Answer without these").click()
    expect(tab.page.locator(".without")).to_contain_text("Answer to Who is Rex?")
    tab.button("Clear").click()
    expect(tab.page.locator(".without")).to_have_count(0)


def test_two_memories_are_compared(tab: Driver) -> None:
    inspect(tab, "One", "Two")
    tab.page.get_by_label("With the memory after").select_option("turn 1")
    expect(tab.page.get_by_text("of the memory changed")).to_be_visible()
    expect(tab.page.locator(".diff")).not_to_be_empty()


def test_the_inspector_opens_at_the_turn_that_was_asked_for(tab: Driver) -> None:
    tab.say("One")
    tab.say("Two")
    first = tab.page.locator(".turn").first
    first.hover()
    first.get_by_label("Memory after this turn").click()
    expect(tab.page.locator(".slider label")).to_have_text("Memory after turn 1 of 2")
    tab.say("Three")
    expect(tab.page.locator(".slider label")).to_have_text("Memory after turn 1 of 3")


@pytest.mark.parametrize("memory", ["slots"])
def test_slots_are_drawn_as_a_heat_map_with_a_table(tab: Driver, fake: FakeStore) -> None:
    tab.say("One")
    tab.say("Two")
    tab.button("Memory inspector").click()
    expect(tab.page.get_by_role("img", name="Heat map of 2 turns and 48 slots")).to_be_visible()
    expect(tab.page.locator(".slots tbody tr")).to_have_count(2)
    drawn = (
        "document.querySelector('.heat').getContext('2d').getImageData(0, 0, 300, 30).data.some((value) => value > 0)"
    )
    assert tab.page.evaluate(drawn)
    tab.page.locator(".heat").hover(position={"x": 5, "y": 5})
    expect(tab.page.locator(".told")).to_contain_text("turn 1, slot 1: changed by 0.000")

"""The page: retry, edit, undo, branches, deletion, and feedback on answers."""

from playwright.sync_api import expect

from serving.fake_server import FakeStore
from serving.page.driver import Driver


def test_a_retry_is_a_branch_and_arrows_switch(tab: Driver, fake: FakeStore) -> None:
    tab.say("First")
    tab.say("Second")
    tab.last.get_by_label("Retry").click()
    expect(tab.last.locator(".answer")).to_contain_text("Second (2)")
    expect(tab.last.locator(".arrows")).to_contain_text("2 of 2")
    tab.last.get_by_label("Previous branch").click()
    expect(tab.last.locator(".answer")).to_contain_text("Second (1)")
    expect(tab.last.get_by_label("Next branch")).to_be_focused()
    tab.reload()
    expect(tab.last.locator(".arrows")).to_contain_text("1 of 2")


def test_an_edited_question_is_a_fork_and_the_old_branch_stays(tab: Driver) -> None:
    for text in ("One", "Two", "Three"):
        tab.say(text)
    second = tab.page.locator(".turn").nth(1)
    second.hover()
    second.get_by_label("Edit the question").click()
    tab.page.get_by_label("Edited question").fill("Two, edited")
    tab.page.get_by_label("Edited question").press("Enter")
    tab.answered("Two, edited")
    expect(tab.questions).to_have_text(["One", "Two, edited"])
    tab.last.get_by_label("Previous branch").click()
    expect(tab.questions).to_have_text(["One", "Two", "Three"])


def test_undo_goes_back_a_turn_and_redo_forward(tab: Driver) -> None:
    tab.say("One")
    tab.say("Two")
    tab.last.get_by_label("Undo").click()
    expect(tab.questions).to_have_text(["One"])
    expect(tab.page.get_by_text("A branch goes on from here")).to_be_visible()
    tab.button("Redo").click()
    expect(tab.questions).to_have_text(["One", "Two"])
    tab.last.get_by_label("Undo").click()
    expect(tab.questions).to_have_text(["One"])
    tab.say("Other")
    expect(tab.last.locator(".arrows")).to_contain_text("2 of 2")


def test_the_tree_switches_between_branches(tab: Driver) -> None:
    tab.say("One")
    tab.say("Two")
    tab.last.get_by_label("Undo").click()
    tab.say("Other two")
    tab.say("Other three")
    tab.page.get_by_role("button", name="Branches", exact=True).click()
    nodes = tab.page.locator(".tree .node > span")
    expect(nodes).to_have_text(["One", "Two", "Other two", "Other three"])
    expect(tab.page.locator(".node[aria-current] > span")).to_have_text("Other three")
    nodes.nth(1).click()
    expect(tab.questions).to_have_text(["One", "Two"])
    nodes.nth(2).click()
    expect(tab.questions).to_have_text(["One", "Other two", "Other three"])


def test_deleting_a_turn_asks_when_later_turns_go_too(tab: Driver, fake: FakeStore) -> None:
    for text in ("One", "Two", "Three"):
        tab.say(text)
    tab.menu(tab.page.locator(".turn").nth(1), "Delete")
    expect(tab.dialog).to_contain_text("the turn after it")
    tab.dialog.get_by_role("button", name="Cancel").click()
    expect(tab.questions).to_have_count(3)
    tab.menu(tab.page.locator(".turn").nth(1), "Delete")
    tab.dialog.get_by_role("button", name="Delete").click()
    expect(tab.questions).to_have_text(["One"])
    assert [turn["query"] for turn in fake.turns.values()] == ["One"]


def test_consent_is_asked_once_before_the_first_rating(tab: Driver, fake: FakeStore) -> None:
    tab.say("One")
    tab.last.get_by_label("Good answer").click()
    expect(tab.dialog).to_contain_text("exported to train models")
    tab.dialog.get_by_role("button", name="Cancel").click()
    assert fake.feedback == []
    tab.last.get_by_label("Good answer").click()
    tab.dialog.get_by_role("button", name="Store my ratings").click()
    expect(tab.last.get_by_label("Good answer")).to_have_attribute("aria-pressed", "true")
    tab.last.get_by_label("Bad answer").click()
    expect(tab.last.get_by_label("Bad answer")).to_have_attribute("aria-pressed", "true")
    tab.last.get_by_label("Bad answer").click()
    expect(tab.last.get_by_label("Bad answer")).to_have_attribute("aria-pressed", "false")
    assert [body["rating"] for body in fake.feedback] == ["up", "down", None]


def test_after_a_retry_the_better_answer_is_asked_for(tab: Driver, fake: FakeStore) -> None:
    tab.page.evaluate("localStorage.setItem('rxlm.consent', 'true')")
    tab.reload()
    tab.say("One")
    tab.last.get_by_label("Retry").click()
    expect(tab.page.get_by_text("Which answer is better?")).to_be_visible()
    tab.button("The earlier answer").click()
    expect(tab.last.locator(".answer")).to_contain_text("One (1)")
    expect(tab.page.locator(".comparison")).to_have_count(0)
    older, newer = fake.turns
    assert fake.feedback == [{"response_id": older, "better_than": newer}]


def test_a_better_answer_is_stored_as_feedback(tab: Driver, fake: FakeStore) -> None:
    tab.page.evaluate("localStorage.setItem('rxlm.consent', 'true')")
    tab.reload()
    turn = tab.say("One")
    tab.menu(turn, "Write a better answer")
    tab.page.get_by_label("Better answer").fill("This is better.")
    tab.button("Store").click()
    tab.last.get_by_text("Your better answer").click()
    expect(tab.last.get_by_text("This is better.")).to_be_visible()
    assert [body["edit"] for body in fake.feedback] == ["This is better."]

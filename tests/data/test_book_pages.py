"""Books read aloud: consecutive pages, drawn by seed and number alone."""

import pytest

from rxlm.data.book_pages import GO_ON, BookPages

BOOKS = {
    name: "\n\n".join(f"{name} has a paragraph {number}." for number in range(length))
    for name, length in (("hens", 40), ("ducks", 25), ("note", 3))
}


def pages(**settings):
    return BookPages(BOOKS, **{"num_turns": 4, "max_words": 10, **settings})


def test_answers_are_consecutive_pages_of_one_book():
    for number in range(50):
        dialogue = pages().dialogue(number)
        name, said = dialogue.details["id"], "\n\n".join(turn.answer for turn in dialogue.turns)
        assert len(dialogue) == 4
        assert said in BOOKS[name]
        assert said == "\n\n".join(pages().pages[name][dialogue.details["first_page"] :][:4])


def test_all_pages_together_are_the_book():
    drawn = pages(num_turns=1)
    assert {name: "\n\n".join(of_book) for name, of_book in drawn.pages.items()} == BOOKS


def test_every_start_is_drawn_from_first_to_last():
    drawn = pages(num_turns=10)
    firsts = {name: set() for name in drawn.pages}
    for number in range(400):
        dialogue = drawn.dialogue(number)
        firsts[dialogue.details["id"]].add(dialogue.details["first_page"])
    assert firsts == {"hens": set(range(11)), "ducks": set(range(4))}  # 20 and 13 pages


def test_number_and_seed_decide_alone():
    first, again, other = pages(), pages(), pages(seed=1)
    backwards = [again.dialogue(number) for number in reversed(range(20))][::-1]
    assert [first.dialogue(number) for number in range(20)] == backwards
    assert [other.dialogue(number) for number in range(20)] != backwards
    assert tuple(first(7)) == first.dialogue(7).turns


def test_only_pages_that_follow_others_are_references():
    turns = pages().dialogue(0).turns
    assert [turn.is_reference for turn in turns] == [False, True, True, True]
    assert {turn.query for turn in turns[1:]} == {GO_ON}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_turns": 30}, "num_turns=30, but no book has as many pages of up to 10 words: the longest of 3 has 20"),
        ({"num_turns": 0}, "num_turns must be at least 1, got 0"),
        ({"max_words": 0}, "max_words must be at least 1, got 0"),
    ],
)
def test_conversation_that_no_book_can_give_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        pages(**settings)


def test_number_of_books_may_not_be_none():
    with pytest.raises(ValueError, match="the longest of 0 has 0"):
        BookPages({})

"""Books, picture books, FairytaleQA and SGD: read whole, without what is not the story."""

import gzip
import json
import re

import pytest

from rxlm.data.contamination import contaminated, contamination, without
from rxlm.data.records import RecordError
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import (
    fairytale_dialogue,
    read_fairytales,
    read_gutenberg,
    read_picture_books,
    read_tiny_stories,
    strip_gutenberg,
)

NEW = """The Project Gutenberg EBook of Hens, by A. Hen
License text.\r
*** START OF THIS PROJECT GUTENBERG EBOOK HENS ***\r
\r
Produced by Somebody\r
\r
HENS\r
\r
Once there was
a hen.

[Illustration: a hen]

She was produced by an egg.

Transcriber's Notes:

Page 3: spelling.

End of the Project Gutenberg EBook of Hens, by A. Hen

*** END OF THIS PROJECT GUTENBERG EBOOK HENS ***
Terms of use.
"""
OLD = """Project Gutenberg Etext of Hens
***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
Lawyers.
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*

This etext was prepared by Somebody

HENS

Once there was
a hen.

She was produced by an egg.

End of The Project Gutenberg Etext of Hens
"""
BOOK = "HENS\n\nOnce there was a hen.\n\nShe was produced by an egg."


@pytest.mark.parametrize("text", [NEW, OLD, OLD.replace("*END*THE", "*END THE")])
def test_book_is_what_remains(text):
    assert strip_gutenberg(text) == BOOK


def test_book_without_the_usual_lines_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no end of a Project Gutenberg header"):
        strip_gutenberg("Once there was a hen.")
    (tmp_path / "hens.txt").write_text(NEW.split("End of the")[0])
    with pytest.raises(ValueError, match=r"hens.txt: no start of a Project Gutenberg footer"):
        read_gutenberg(tmp_path)


def test_books_may_be_latin_1(tmp_path):
    (tmp_path / "hens.txt").write_bytes(NEW.replace("a hen.", "a hén.").encode("latin-1"))
    (tmp_path / "SOURCE.txt").write_text("about the books")
    assert read_gutenberg(tmp_path) == {"hens.txt": BOOK.replace("a hen.", "a hén.")}


def test_picture_books_are_title_and_pages(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"title": "Hens", "pages": ["One.", "Two."]}\n{"title": "No words", "pages": []}')
    assert read_picture_books(file) == ["Hens\n\nOne.\n\nTwo."]
    file.write_text('{"title": "Hens"}')
    with pytest.raises(RecordError, match="line 1: field 'pages' is None; expected a list"):
        read_picture_books(file)


def test_tiny_stories_end_at_single_line_ends(tmp_path):
    first, second = "Tom ran. " * 12, "Lily sat. " * 13
    text = f"{first}\n\nHe said, \u00e2\u20ac\u0153No.\u00e2\u20ac\u009d\nThen he sat.\n{second}\n\nThe end.\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    stories = read_tiny_stories(tmp_path / "a.txt")
    assert stories == [f'{first}\n\nHe said, "No."\nThen he sat.', f"{second}\n\nThe end."]


TALE = {
    "story": "hens",
    "section_ids": ["1", "2"],
    "sections": ["There was\na hen. She was red.", "She laid an egg."],
    "qa": [
        {"q": "Who was red?", "answers": ["the hen", "a hen"], "sections": "1", "attr": "character"},
        {"q": "What came of it?", "answers": ["an egg"], "sections": "1,2", "attr": "outcome resolution"},
    ],
}


def test_fairytale_is_told_and_then_asked_about(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(TALE))
    (tale,) = read_fairytales(tmp_path / "a.jsonl")
    dialogue = fairytale_dialogue(tale, max_words=4)
    assert [(turn.query, turn.answer) for turn in dialogue.turns] == [
        ("There was a hen.", "Go on."),
        ("She was red.", "Go on."),
        ("She laid an egg.", "Go on."),
        ("Who was red?", "the hen"),
        ("What came of it?", "an egg"),
    ]
    assert [turn.question.distance for turn in dialogue.turns[3:]] == [3, 4]
    assert dialogue.details["references"][3:] == (("the hen", "a hen"), ("an egg",))
    assert [turn.query for turn in fairytale_dialogue(tale).turns][:2] == list(tale.sections)


def test_broken_fairytale_is_located(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({**TALE, "section_ids": ["1"]}))
    with pytest.raises(RecordError, match=r"a.jsonl, line 1: field 'section_ids' has 1 for the 2 of 'sections'"):
        read_fairytales(tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_service_dialogues_keep_their_values(tmp_path, name):
    record = {
        "id": "1_0",
        "services": ["Restaurants_1"],
        "turns": [["U", "A table, please."], ["S", "Where?"], ["U", "Here."], ["S", "Done."]],
        "final_state": {"Restaurants_1": {"city": ["Here", "here"]}},
    }
    (tmp_path / name).write_bytes((gzip.compress if name.endswith("gz") else bytes)(json.dumps(record).encode()))
    (dialogue,) = read_sgd(tmp_path / name)
    assert [(turn.query, turn.answer) for turn in dialogue.turns] == [
        ("A table, please.", "Where?"),
        ("Here.", "Done."),
    ]
    assert dialogue.details["service_values"] == {"Restaurants_1.city": ("Here", "here")}
    assert dialogue.details["licence"] == "CC BY-SA 4.0"


@pytest.mark.parametrize("turns", [[], [["U", "a"]], [["S", "a"], ["U", "b"]], [["U", "a"], ["S", " "]], "U"])
def test_service_dialogue_of_another_form_is_located(tmp_path, turns):
    (tmp_path / "a.jsonl").write_text(json.dumps({"turns": turns}))
    with pytest.raises(RecordError, match=r"a.jsonl, line 1.*(turns|expected \['U', text\])"):
        read_sgd(tmp_path / "a.jsonl")


STORY = " ".join(f"word{number}" for number in range(60))


def test_story_that_stands_in_a_book_is_found_whatever_its_case_and_punctuation():
    book = f"Preface of the book.\n\n{STORY.upper().replace(' ', ', ')}!\n\nThe end."
    other = " ".join(f"thing{number}" for number in range(60))
    shares = contamination({"known": STORY, "new": other}, ["Another book.", book])
    assert shares == {"known": 1.0, "new": 0.0}
    assert contaminated({"known": STORY, "new": other}, [book]) == ["known"]


def test_passages_are_left_out_of_a_book_with_the_short_ones_between():
    words = STORY.split()
    book = "\n\n".join(["Before.", " ".join(words[:25]), "Oh!", " ".join(words[25:]), "After."])
    assert list(without([book, "Other."], [STORY])) == ["Before.\n\nAfter.", "Other."]
    assert list(without([book], ["something else"])) == [book]


def test_real_books_and_stories_are_read(real_data):
    books = read_gutenberg(real_data / "gutenberg-children")
    assert len(books) == 40
    assert not any(re.search(r"gutenberg|\be-?text\b", text, re.IGNORECASE) for text in books.values())
    assert sum(len(text.split()) for text in books.values()) > 2_600_000
    tales = {tale.name: " ".join(tale.sections) for tale in read_fairytales(real_data / "fairytaleqa" / "val.jsonl")}
    known = contaminated(tales, books.values())
    assert len(known) == 6
    assert len(read_picture_books(real_data / "simple-stories")) == 707
    assert len(read_tiny_stories(real_data / "tinystories-sample" / "tiny_stories.txt")) > 1000
    assert len(read_sgd(real_data / "sgd" / "dev.jsonl.gz")) == 2098

"""Passages: nothing is lost, and none is longer than it may be."""

import re

import pytest

from rxlm.data.passages import paragraph_passages, sentence_pieces

TEXT = "\n\n".join(
    " ".join(f"Word {paragraph} {sentence}." for sentence in range(paragraph % 7 + 1)) for paragraph in range(30)
)


@pytest.mark.parametrize("max_words", [1, 5, 9, 20, 1000])
def test_passages_say_the_whole_text_in_its_order(max_words):
    assert " ".join(paragraph_passages(TEXT, max_words)).split() == TEXT.split()
    assert " ".join(sentence_pieces(TEXT, max_words)).split() == TEXT.split()


@pytest.mark.parametrize("max_words", [3, 5, 9, 20, 1000])
def test_no_passage_has_more_words_than_allowed(max_words):
    assert max(len(passage.split()) for passage in paragraph_passages(TEXT, max_words)) <= max_words


def test_sentence_longer_than_a_passage_stays_whole():
    assert list(sentence_pieces("One. One two three four. Two.", 2)) == ["One.", "One two three four.", "Two."]


def test_passages_end_at_paragraphs_that_fit():
    paragraphs = re.split(r"\n\n", TEXT)
    assert paragraph_passages(TEXT, 21)[:2] == ["\n\n".join(paragraphs[:3]), "\n\n".join(paragraphs[3:4])]


def test_rest_of_a_long_paragraph_goes_on_with_the_next():
    assert paragraph_passages("One two. Three. \n \nFour.\n\n\n", 2) == ["One two.", "Three.\n\nFour."]
    assert paragraph_passages(" \n\n ", 2) == []

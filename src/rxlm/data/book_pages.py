"""Books read aloud page by page: the user asks to go on, and the answer is what the book says next.

The answers are natural language that depends on all pages before, and nothing in the queries helps to foresee them.
"""

import random
from collections.abc import Iterator, Mapping

from rxlm.data.passages import paragraph_passages
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.stories import ACKNOWLEDGEMENT

OPENING = "Read to me."
GO_ON = ACKNOWLEDGEMENT


class BookPages:
    """An endless sequence of conversations, each of which reads consecutive pages of a book.

    Where a conversation begins is drawn evenly from all pages with enough others after them. Its first answer is no
    reference: nothing was told that it could follow from.

    Args:
        books: texts by name, for example of `read_gutenberg`; paragraphs are separated by blank lines.
        num_turns: pages of a conversation.
        max_words: words of a page, which consists of whole paragraphs; a longer paragraph is divided between sentences.
        seed: of the draws.

    ValueError if no book has `num_turns` pages; shorter books are left out.
    """

    def __init__(self, books: Mapping[str, str], *, num_turns: int = 16, max_words: int = 100, seed: int = 0) -> None:
        for name, value in (("num_turns", num_turns), ("max_words", max_words)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        pages = {name: paragraph_passages(text, max_words) for name, text in books.items()}
        self.pages = {name: of_book for name, of_book in pages.items() if len(of_book) >= num_turns}
        if not self.pages:
            longest = max(map(len, pages.values()), default=0)
            raise ValueError(
                f"num_turns={num_turns}, but no book has as many pages of up to {max_words} words: the longest of "
                f"{len(pages)} has {longest}"
            )
        self.num_turns, self.seed = num_turns, seed
        self._names = list(self.pages)
        self._starts = [len(of_book) - num_turns + 1 for of_book in self.pages.values()]

    def __call__(self, number: int) -> Iterator[Interaction]:
        """Return the turns of conversation number `number`."""
        return iter(self.dialogue(number).turns)

    def dialogue(self, number: int) -> Dialogue:
        """Return conversation number `number`; `details` hold the book's name as "id", and the first page's number."""
        rng = random.Random(f"{self.seed}/pages/{number}")
        book = rng.choices(range(len(self._names)), self._starts)[0]
        name, first = self._names[book], rng.randrange(self._starts[book])
        opening, *others = self.pages[name][first : first + self.num_turns]
        turns = [Interaction(OPENING, opening, is_reference=False), *(Interaction(GO_ON, page) for page in others)]
        return Dialogue(tuple(turns), f"{name}, page {first + 1}", {"id": name, "first_page": first})

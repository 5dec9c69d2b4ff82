"""The kinds of fact in generated dialogues: their values, and the wordings that tell, change and ask for them.

In a wording, `{v}` is the value, `{V}` the value with a capital, and `{a}` its "a" or "an"; where a fact changes, `{o}`
is the old value and `{b}` its article. A wording is a query with its answer, so that one line reads as one turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple, Self

Variety = Literal["small", "full"]
AnswerWording = Literal["varied", "plain"]


class Wording(NamedTuple):
    """The words of a turn: the user's query and its answer, with places for values."""

    query: str
    answer: str

    def fill(self, value: str, old: str = "") -> tuple[str, str]:
        """Return query and answer with the value, and with the old value where a change names it."""
        words = {
            "v": value,
            "V": value[0].upper() + value[1:],
            "a": _article(value),
            "o": old,
            "b": _article(old),
        }
        query, answer = self.query.format(**words), self.answer.format(**words)
        return query[0].upper() + query[1:], answer[0].upper() + answer[1:]


def _article(noun: str) -> str:
    return "an" if noun.startswith(("a", "e", "i", "o", "u")) else "a"


@dataclass(frozen=True, slots=True)
class FactKind:
    """A kind of fact: a person has one value of it at a time.

    Fields:
        name: `Question.kind`.
        values: its possible values, which compete when an answer is scored.
        tell, update: wordings of the first telling, and of a change.
        ask: wordings of the question with its answer.
    """

    name: str
    values: tuple[str, ...]
    tell: tuple[Wording, ...]
    update: tuple[Wording, ...]
    ask: tuple[Wording, ...]

    def with_answers(self, wording: AnswerWording) -> Self:
        """Return the kind whose questions are answered in these words: "plain" ones are those of the first question."""
        if wording == "varied":
            return self
        return replace(self, ask=tuple(each._replace(answer=self.ask[0].answer) for each in self.ask))


def kind_of_fact(
    name: str,
    values: str,
    *,
    tell: Sequence[tuple[str, str]],
    update: Sequence[tuple[str, str]],
    ask: Sequence[tuple[str, str]],
) -> FactKind:
    """Build a kind from its values, separated by commas, and plain pairs of query and answer."""
    tell, update, ask = ([Wording(*pair) for pair in pairs] for pairs in (tell, update, ask))
    return FactKind(name, tuple(values.split(", ")), tuple(tell), tuple(update), tuple(ask))


def fact_kinds(variety: Variety) -> tuple[FactKind, ...]:
    """Return the kinds of fact of a variety: 8 of 20 values in "small", many more in "full"."""
    if variety == "small":
        return SMALL_KINDS
    if variety == "full":
        return _full_kinds()
    raise ValueError(f"variety must be 'small' or 'full', got {variety!r}")


def values_by_kind(variety: Variety) -> dict[str, tuple[str, ...]]:
    """Return the values of each kind by its name: the competitors of `scoring.grade`."""
    return {kind.name: kind.values for kind in fact_kinds(variety)}


@cache
def _full_kinds() -> tuple[FactKind, ...]:
    from rxlm.data.fact_kinds_full import FULL_KINDS  # not above: it builds on this module

    return FULL_KINDS


SMALL_KINDS = (
    kind_of_fact(
        "name",
        "Anna, Ben, Clara, David, Emma, Felix, Grace, Henry, Irene, Jack, Kate, Leo, Maria, Nora, Oscar, Paul, "
        "Rosa, Simon, Tom, Vera",
        tell=[
            ("My name is {v}.", "Nice to meet you, {v}."),
            ("Hello, I am {v}.", "Hello {v}, how are you?"),
            ("People call me {v}.", "Then I will call you {v}."),
        ],
        update=[
            ("Please call me {v} from now on.", "Of course, {v}."),
            ("I changed my name to {v}.", "All right, {v} it is."),
        ],
        ask=[
            ("What is my name?", "Your name is {v}."),
            ("Do you remember my name?", "Yes, your name is {v}."),
            ("Who am I?", "You are {v}."),
        ],
    ),
    kind_of_fact(
        "home",
        "Athens, Berlin, Boston, Cairo, Chicago, Delhi, Dublin, Geneva, Lima, Lisbon, London, Madrid, Milan, "
        "Oslo, Paris, Prague, Rome, Sydney, Tokyo, Vienna",
        tell=[
            ("I live in {v}.", "{v} is a lovely city."),
            ("My home is in {v}.", "I have heard good things about {v}."),
            ("I have a flat in {v}.", "It must be nice to live in {v}."),
        ],
        update=[
            ("I have moved to {v}.", "I hope you will be happy in {v}."),
            ("I live in {v} now.", "How do you like {v}?"),
        ],
        ask=[
            ("Where do I live?", "You live in {v}."),
            ("Which city do I live in?", "You live in {v}."),
            ("Do you know where my home is?", "Yes, your home is in {v}."),
        ],
    ),
    kind_of_fact(
        "dog",
        "Bandit, Bella, Bruno, Buddy, Coco, Daisy, Fido, Ginger, Hazel, Luna, Molly, Nala, Otto, Pepper, Rex, "
        "Rocky, Rusty, Shadow, Toby, Zeus",
        tell=[
            ("My dog is called {v}.", "{v} is a good name for a dog."),
            ("I have a dog named {v}.", "I would love to meet {v}."),
            ("My dog's name is {v}.", "{v} must be a good dog."),
        ],
        update=[
            ("I have a new dog called {v}.", "Give {v} a hug from me."),
            ("My dog has a new name, {v}.", "{v} suits a dog well."),
        ],
        ask=[
            ("What is my dog called?", "Your dog is called {v}."),
            ("What is my dog's name?", "Your dog's name is {v}."),
            ("Do you remember my dog's name?", "Yes, your dog is called {v}."),
        ],
    ),
    kind_of_fact(
        "colour",
        "beige, black, blue, brown, crimson, gold, green, grey, indigo, ivory, lilac, orange, pink, purple, red, "
        "silver, turquoise, violet, white, yellow",
        tell=[
            ("My favourite colour is {v}.", "{V} is a beautiful colour."),
            ("I like {v} best of all colours.", "{V} is a good choice."),
        ],
        update=[
            ("My new favourite colour is {v}.", "So it is {v} now."),
            ("Now I like {v} best of all colours.", "{V} is pretty, too."),
        ],
        ask=[
            ("What is my favourite colour?", "Your favourite colour is {v}."),
            ("Which colour do I like best?", "You like {v} best."),
        ],
    ),
    kind_of_fact(
        "job",
        "actor, baker, barber, carpenter, chef, dancer, dentist, doctor, driver, engineer, farmer, gardener, "
        "lawyer, nurse, painter, pilot, plumber, singer, teacher, writer",
        tell=[
            ("I work as {a} {v}.", "It must be interesting to be {a} {v}."),
            ("I am {a} {v} by trade.", "I have never met {a} {v} before."),
        ],
        update=[
            ("I have a new job as {a} {v}.", "Good luck as {a} {v}."),
            ("I work as {a} {v} now.", "I hope you like being {a} {v}."),
        ],
        ask=[
            ("What is my job?", "You are {a} {v}."),
            ("What do I do for a living?", "You work as {a} {v}."),
            ("Do you know what my job is?", "Yes, you are {a} {v}."),
        ],
    ),
    kind_of_fact(
        "food",
        "bread, cheese, chicken, chocolate, couscous, curry, fish, goulash, honey, lasagna, paella, pasta, "
        "pizza, ramen, rice, salad, soup, steak, stew, sushi",
        tell=[
            ("My favourite food is {v}.", "{V} is delicious."),
            ("I love to eat {v}.", "I hear that {v} tastes great."),
        ],
        update=[
            ("My new favourite food is {v}.", "{V} is tasty, too."),
            ("Now I like {v} more than any other food.", "So it is {v} now."),
        ],
        ask=[
            ("What is my favourite food?", "Your favourite food is {v}."),
            ("What do I love to eat?", "You love to eat {v}."),
        ],
    ),
    kind_of_fact(
        "room",
        ", ".join(map(str, range(11, 31))),
        tell=[
            ("I am staying in room {v}.", "I hope room {v} is comfortable."),
            ("My room number is {v}.", "Room {v}, thank you."),
        ],
        update=[
            ("They moved me to room {v}.", "Is room {v} better?"),
            ("I have changed to room {v}.", "Enjoy room {v}."),
        ],
        ask=[
            ("What is my room number?", "Your room number is {v}."),
            ("Which room am I in?", "You are in room {v}."),
            ("Do you remember my room?", "Yes, you are in room {v}."),
        ],
    ),
    kind_of_fact(
        "plan",
        "bowling, camping, climbing, cycling, dancing, diving, fishing, hiking, hunting, jogging, kayaking, "
        "riding, rowing, running, sailing, shopping, skating, skiing, surfing, swimming",
        tell=[
            ("I will go {v} on Saturday.", "Have fun when you go {v}."),
            ("On Saturday I want to go {v}.", "A day of {v} sounds good."),
        ],
        update=[
            ("I changed my plans, I will go {v}.", "Then enjoy the {v}."),
            ("On Saturday I will go {v} instead.", "I like {v}, too."),
        ],
        ask=[
            ("What are my plans for Saturday?", "On Saturday you will go {v}."),
            ("What will I do on Saturday?", "You will go {v} on Saturday."),
        ],
    ),
)
"""Eight kinds of fact with twenty values each, short enough for turns of 32 tokens."""

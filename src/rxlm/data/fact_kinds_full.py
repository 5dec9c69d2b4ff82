"""The kinds of fact of full variety: about oneself, about eight other people, and about where things are.

A wording combines an opening, a statement and an answer, each drawn by itself. `WHO` stands for a person.
"""

from collections.abc import Sequence

from rxlm.data import fact_values as values
from rxlm.data.fact_kinds import FactKind, kind_of_fact

_OPENINGS = ("", "", "", "", "By the way, ", "Just so you know, ", "Did I tell you? ")
_CORRECTIONS = ("Actually, ", "I have to correct myself: ", "Let me correct that: ", "No, wait, ")
_QUESTION_OPENINGS = ("", "", "", "", "Tell me, ", "A quick question: ", "Let me test you: ")
_ANSWER_OPENINGS = ("", "", "", "", "You told me that ", "As you said, ", "If I remember correctly, ")
_ACKNOWLEDGED = ("Good to know.", "Thank you for telling me.", "I will remember that.", "All right.", "I see.")
_CORRECTED = ("I will remember that.", "Thank you for the update.", "Understood.", "Then I have that right now.")

_PERSONS = {
    "sister": values.WOMEN,
    "brother": values.MEN,
    "mother": values.WOMEN,
    "father": values.MEN,
    "best friend": values.NAMES,
    "neighbour": values.NAMES,
    "cousin": values.NAMES,
    "boss": values.NAMES,
}
_THINGS = (("keys", True), ("glasses", True), ("umbrella", False), ("passport", False), ("wallet", False))


def _kind(
    name: str,
    known_values: str,
    *,
    statements: Sequence[str],
    questions: Sequence[str],
    answers: Sequence[str],
    changes: Sequence[str] = (),
    replies: Sequence[str] = (),
) -> FactKind:
    """Put a kind together; `changes` can name the old value, `{o}`, and `replies` are answers to a statement."""
    corrections = [*_with_openings(_CORRECTIONS, statements), *(change for change in changes for _ in range(4))]
    return kind_of_fact(
        name,
        known_values,
        tell=_pairs(_with_openings(_OPENINGS, statements), [*replies, *replies, *_ACKNOWLEDGED]),
        update=_pairs(corrections, _CORRECTED),
        ask=_pairs(_with_openings(_QUESTION_OPENINGS, questions), _with_openings(_ANSWER_OPENINGS, answers)),
    )


def _with_openings(openings: Sequence[str], sentences: Sequence[str]) -> list[str]:
    return [_join(opening, sentence) for opening in openings for sentence in sentences]


def _join(opening: str, sentence: str) -> str:
    # After a comma or a colon a sentence goes on in lower case, unless it starts with "I" or with a value.
    if opening.endswith((", ", ": ", "that ")) and not sentence.startswith(("I ", "I'm ", "{")):
        sentence = sentence[0].lower() + sentence[1:]
    return opening + sentence


def _pairs(queries: Sequence[str], answers: Sequence[str]) -> list[tuple[str, str]]:
    return [(query, answer) for query in queries for answer in answers]


def _about(person: str, names: str) -> list[FactKind]:
    """Return what can be told about another person."""

    def kind(attribute: str, known_values: str, **wordings: Sequence[str]) -> FactKind:
        filled = {key: [text.replace("WHO", person) for text in texts] for key, texts in wordings.items()}
        return _kind(f"{person}'s {attribute}", known_values, **filled)

    return [
        kind(
            "name",
            names,
            statements=["My WHO is called {v}.", "My WHO's name is {v}.", "{v} is the name of my WHO."],
            questions=["What is my WHO called?", "What is my WHO's name?", "Do you know my WHO's name?"],
            answers=["Your WHO is called {v}.", "Your WHO's name is {v}."],
            replies=["{v} is a nice name.", "Please say hello to {v}."],
        ),
        kind(
            "home",
            values.CITIES,
            statements=["My WHO lives in {v}.", "My WHO has a flat in {v}.", "{v} is where my WHO lives."],
            questions=["Where does my WHO live?", "Which city does my WHO live in?"],
            answers=["Your WHO lives in {v}.", "The home of your WHO is in {v}."],
            changes=["My WHO has moved to {v}.", "My WHO has left {o} and lives in {v} now."],
            replies=["I would like to see {v} one day.", "{v} must be interesting."],
        ),
        kind(
            "job",
            values.JOBS,
            statements=["My WHO is {a} {v}.", "My WHO works as {a} {v}."],
            questions=["What is my WHO's job?", "What does my WHO do for a living?"],
            answers=["Your WHO is {a} {v}.", "Your WHO works as {a} {v}."],
            changes=["My WHO has a new job as {a} {v}.", "My WHO is no longer {b} {o}, but {a} {v}."],
            replies=["It must be hard work to be {a} {v}.", "The world needs people like that."],
        ),
        kind(
            "hobby",
            values.HOBBIES,
            statements=["My WHO loves {v}.", "My WHO's hobby is {v}.", "My WHO spends every Sunday {v}."],
            questions=["What does my WHO love?", "What is my WHO's hobby?"],
            answers=["Your WHO loves {v}.", "The hobby of your WHO is {v}."],
            changes=["My WHO has given up {o} and loves {v} now.", "My WHO's new hobby is {v}."],
            replies=["I hear that {v} is good for you.", "What a nice hobby."],
        ),
        kind(
            "age",
            values.AGES,
            statements=["My WHO is {v} years old.", "My WHO has just turned {v}."],
            questions=["How old is my WHO?", "What is my WHO's age?"],
            answers=["Your WHO is {v}.", "Your WHO is {v} years old."],
            changes=["I said that my WHO is {o}, but it is {v}."],
            replies=["{v} is a good age.", "Time flies."],
        ),
    ]


def _place_of(thing: str, is_plural: bool) -> FactKind:
    """Return the kind of fact that says where a thing is."""
    are, them = ("are", "them") if is_plural else ("is", "it")
    return _kind(
        f"place of the {thing}",
        values.PLACES,
        statements=[f"My {thing} {are} {{v}}.", f"I left my {thing} {{v}}.", f"I put my {thing} {{v}}."],
        questions=[
            f"Where {are} my {thing}?",
            f"Where did I leave my {thing}?",
            f"Do you know where my {thing} {are}?",
        ],
        answers=[f"Your {thing} {are} {{v}}.", f"You left your {thing} {{v}}."],
        changes=[f"I moved my {thing}, I put {them} {{v}}.", f"My {thing} {are} not {{o}} any more, but {{v}}."],
        replies=["That is a safe place.", f"I hope you find {them} again."],
    )


def _favourite(thing: str, known_values: str, verb: str = "is") -> FactKind:
    """Return the kind of fact that says what somebody likes best."""
    return _kind(
        f"favourite {thing}",
        known_values,
        statements=[f"My favourite {thing} {verb} {{v}}.", f"I like {{v}} better than any other {thing}."],
        questions=[f"What {verb} my favourite {thing}?", f"Which {thing} do I like best?"],
        answers=[f"Your favourite {thing} {verb} {{v}}.", "You like {v} best."],
        changes=[f"My new favourite {thing} {verb} {{v}}.", "I used to like {o} best, but now I prefer {v}."],
        replies=["{V}? A good choice.", "I can see why you like {v}."],
    )


def _about_oneself() -> list[FactKind]:
    """Return what people tell about themselves."""
    return [
        _kind(
            "name",
            values.NAMES,
            statements=["My name is {v}.", "I am called {v}.", "You can call me {v}."],
            questions=["What is my name?", "Do you remember my name?", "Who am I?"],
            answers=["Your name is {v}.", "You are {v}."],
            changes=["Please call me {v} from now on.", "I am not called {o} any more, but {v}."],
            replies=["Nice to meet you, {v}.", "Hello {v}!"],
        ),
        _kind(
            "home",
            values.CITIES,
            statements=["I live in {v}.", "My home is in {v}.", "I have a flat in {v}."],
            questions=["Where do I live?", "Which city do I live in?", "Do you know where my home is?"],
            answers=["You live in {v}.", "Your home is in {v}."],
            changes=["I have moved to {v}.", "I moved from {o} to {v}."],
            replies=["{v} is a lovely city.", "How do you like {v}?"],
        ),
        _kind(
            "birthplace",
            values.CITIES,
            statements=["I was born in {v}.", "I come from {v}.", "I grew up in {v}."],
            questions=["Where was I born?", "Where do I come from?", "Which city did I grow up in?"],
            answers=["You come from {v}.", "You were born in {v}."],
            changes=["I was not born in {o}, but in {v}."],
            replies=["You must know {v} well, then.", "Do you miss {v}?"],
        ),
        _kind(
            "job",
            values.JOBS,
            statements=["I work as {a} {v}.", "I am {a} {v}.", "I am {a} {v} by trade."],
            questions=["What is my job?", "What do I do for a living?", "Do you know what I work as?"],
            answers=["You are {a} {v}.", "You work as {a} {v}."],
            changes=["I have a new job as {a} {v}.", "I am no longer {b} {o}, I am {a} {v} now."],
            replies=["It must be interesting to be {a} {v}.", "I have never met {a} {v} before."],
        ),
        _kind(
            "dog",
            values.PETS,
            statements=["My dog is called {v}.", "I have a dog named {v}.", "My dog's name is {v}."],
            questions=["What is my dog called?", "What is my dog's name?", "Do you remember my dog's name?"],
            answers=["Your dog is called {v}.", "Your dog's name is {v}."],
            changes=["I have a new dog called {v}.", "We do not call our dog {o} any more, but {v}."],
            replies=["{v} is a good name for a dog.", "I would love to meet {v}."],
        ),
        _kind(
            "cat",
            values.PETS,
            statements=["My cat is called {v}.", "I have a cat named {v}.", "My cat's name is {v}."],
            questions=["What is my cat called?", "What is my cat's name?", "How do I call my cat?"],
            answers=["Your cat is called {v}.", "Your cat's name is {v}."],
            changes=["I have a new cat called {v}.", "We do not call our cat {o} any more, but {v}."],
            replies=["{v} sounds like a clever cat.", "Give {v} a stroke from me."],
        ),
        _kind(
            "instrument",
            values.INSTRUMENTS,
            statements=["I play the {v}.", "The instrument that I play is the {v}."],
            questions=["Which instrument do I play?", "What instrument am I playing?"],
            answers=["You play the {v}.", "Your instrument is the {v}."],
            changes=["I have changed to the {v}.", "I gave up the {o} and play the {v} now."],
            replies=["The {v} has a beautiful sound.", "Is the {v} hard to learn?"],
        ),
        _kind(
            "language",
            values.LANGUAGES,
            statements=["I am learning {v}.", "I take lessons in {v}."],
            questions=["Which language am I learning?", "What language do I take lessons in?"],
            answers=["You are learning {v}.", "You take lessons in {v}."],
            changes=["I stopped learning {o} and took up {v}.", "I am learning {v} now."],
            replies=["Is {v} difficult?", "I hope you will speak {v} well soon."],
        ),
        _kind(
            "birthday",
            values.MONTHS,
            statements=["My birthday is in {v}.", "I was born in the month of {v}."],
            questions=["When is my birthday?", "Which month is my birthday in?"],
            answers=["Your birthday is in {v}."],
            changes=["I said that my birthday is in {o}, but it is in {v}."],
            replies=["{v} is a good month for a party.", "I like {v}."],
        ),
        _kind(
            "hobby",
            values.HOBBIES,
            statements=["My hobby is {v}.", "I spend my evenings {v}.", "In my free time I enjoy {v}."],
            questions=["What is my hobby?", "What do I do in my free time?", "How do I spend my evenings?"],
            answers=["Your hobby is {v}.", "You spend your free time {v}."],
            changes=["I have given up {o}, my hobby is {v} now.", "My new hobby is {v}."],
            replies=["I hear that {v} is good for you.", "How long have you enjoyed {v}?"],
        ),
        _kind(
            "car",
            values.COLOURS,
            statements=["My car is {v}.", "I drive a car that is {v}."],
            questions=["What colour is my car?", "Do you remember the colour of my car?"],
            answers=["Your car is {v}."],
            changes=["I had my car painted {v}.", "My car is not {o} any more, I had it painted {v}."],
            replies=["{V} suits a car.", "You will always find a car that is {v}."],
        ),
        _kind(
            "door",
            values.COLOURS,
            statements=["My front door is {v}.", "I have painted my front door {v}."],
            questions=["What colour is my front door?", "Which colour did I paint my front door?"],
            answers=["Your front door is {v}."],
            changes=["My front door was {o}, but now it is {v}."],
            replies=["{V} is a friendly colour.", "Did you choose {v} yourself?"],
        ),
        _kind(
            "room",
            values.NUMBERS,
            statements=["I am staying in room {v}.", "My room number is {v}.", "They gave me room {v}."],
            questions=["What is my room number?", "Which room am I in?", "Do you remember my room?"],
            answers=["You are in room {v}.", "Your room number is {v}."],
            changes=["They moved me from room {o} to room {v}.", "I have changed to room {v}."],
            replies=["I hope room {v} is comfortable.", "Room {v}, then."],
        ),
        _kind(
            "bus",
            values.NUMBERS,
            statements=["I take bus {v} to work.", "My bus is number {v}."],
            questions=["Which bus do I take to work?", "What is the number of my bus?"],
            answers=["You take bus {v}.", "Your bus is number {v}."],
            changes=["Bus {o} does not run any more, I take bus {v} now.", "I take bus {v} to work now."],
            replies=["I hope bus {v} is on time.", "Is bus {v} very full?"],
        ),
        _kind(
            "seat",
            values.NUMBERS,
            statements=["I am sitting in seat {v}.", "My seat on the train is number {v}."],
            questions=["What is my seat number?", "Which seat am I sitting in?"],
            answers=["Your seat is number {v}.", "You are sitting in seat {v}."],
            changes=["I changed from seat {o} to seat {v}.", "I moved to seat {v}."],
            replies=["I hope that seat {v} is by the window.", "Seat {v}, then."],
        ),
        _kind(
            "alarm",
            values.TIMES,
            statements=["I get up at {v}.", "My alarm clock rings at {v}."],
            questions=["When do I get up?", "When does my alarm clock ring?"],
            answers=["You get up at {v}.", "Your alarm clock rings at {v}."],
            changes=["I do not get up at {o} any more, but at {v}.", "My alarm clock is set to {v} now."],
            replies=["At {v}? That sounds reasonable.", "Then do not go to bed too late."],
        ),
        _kind(
            "weekend",
            values.OUTINGS,
            statements=["At the weekend I will go {v}.", "I want to go {v} on Saturday."],
            questions=["What are my plans for the weekend?", "What will I do at the weekend?"],
            answers=["At the weekend you will go {v}.", "Your plan is to go {v}."],
            changes=["I will not go {o} at the weekend, but {v}.", "I changed my plans, I will go {v}."],
            replies=["Have fun when you go {v}.", "I hope the weather will be good for {v}."],
        ),
        _kind(
            "holiday",
            values.COUNTRIES,
            statements=["We are going to {v} in summer.", "My next holiday will be in {v}."],
            questions=["Where are we going in summer?", "Which country will I spend my holiday in?"],
            answers=["You are going to {v}.", "Your next holiday will be in {v}."],
            changes=["We are not going to {o}, but to {v}.", "We decided to go to {v} instead."],
            replies=["I have heard good things about {v}.", "{v} must be beautiful in summer."],
        ),
        _kind(
            "dinner",
            values.FOODS,
            statements=["I am making {v} for dinner.", "For dinner we will have {v}."],
            questions=["What am I making for dinner?", "What will we have for dinner?"],
            answers=["You will have {v} for dinner.", "You are making {v}."],
            changes=["I will not make {o} for dinner, but {v}.", "I am making {v} instead."],
            replies=["I hope the {v} will be good.", "Enjoy your dinner."],
        ),
        _kind(
            "present",
            values.PRESENTS,
            statements=["I want to give my mother {v}.", "I bought {v} for my mother's birthday."],
            questions=["What do I want to give my mother?", "What is my present for my mother?"],
            answers=["You want to give your mother {v}.", "Your present for your mother is {v}."],
            changes=["I will not give my mother {o}, but {v}.", "I found {v} instead, I will give my mother that."],
            replies=["That is a thoughtful present.", "I am sure she will like that."],
        ),
    ]


_FAVOURITES = (
    ("colour", values.COLOURS, "is"),
    ("food", values.FOODS, "is"),
    ("drink", values.DRINKS, "is"),
    ("fruits", values.FRUITS, "are"),
    ("flowers", values.FLOWERS, "are"),
    ("animals", values.ANIMALS, "are"),
    ("city", values.CITIES, "is"),
    ("subject", values.SUBJECTS, "is"),
)

FULL_KINDS = (
    *_about_oneself(),
    *(_favourite(thing, known, verb) for thing, known, verb in _FAVOURITES),
    *(_place_of(thing, is_plural) for thing, is_plural in _THINGS),
    *(kind for person, names in _PERSONS.items() for kind in _about(person, names)),
)
"""What people tell in dialogues of full variety, with a dozen to 88 values a kind."""

"""Plans of conversations: in which turn a fact is told and asked for. Words are chosen later.

A plan fixes the distance from each fact to its question, so that a benchmark gets the distances that it measures. In
dialogues of a given length, the two turns go wherever they fit. Endless streams are planned forward only, with a list
of the questions that are due.
"""

import bisect
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

Action = Literal["tell", "ask", "ask-again", "ask-unknown", "chat"]
DistanceLaw = Literal["uniform", "log-uniform"]


class Event(NamedTuple):
    """What a turn does; partner: a telling's question turn, or a question's telling turn."""

    action: Action
    partner: int | None = None


@dataclass(frozen=True)
class Shares:
    """Shares of turns by what they do; the rest tell facts. `ask`: first questions, each with a telling of its own."""

    ask: float
    ask_again: float
    ask_unknown: float
    chat: float

    @property
    def tell(self) -> float:
        """Share of turns that tell a fact."""
        return 1 - self.ask - self.ask_again - self.ask_unknown - self.chat


class Distances:
    """A distribution over distances from `minimum` to `maximum` turns: uniform, or proportional to 1/distance."""

    def __init__(self, law: DistanceLaw, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        weights = [1.0 if law == "uniform" else 1 / distance for distance in range(minimum, maximum + 1)]
        self._cumulative = list(accumulate(weights))

    def draw(self, rng: random.Random) -> int:
        """Draw one distance."""
        place = bisect.bisect_right(self._cumulative, rng.random() * self._cumulative[-1])
        return self.minimum + min(place, len(self._cumulative) - 1)


def plan_dialogue(
    num_turns: int, shares: Shares, distances: Distances, max_facts: int, rng: random.Random
) -> list[Event]:
    """Plan a dialogue of `num_turns`, in which at most `max_facts` facts wait for their question at any time.

    The distances of the questions follow `distances`. A fact that waits for its question cannot change; so with long
    distances a dialogue has fewer questions than `shares` asks for, and small talk instead. If two questions do not
    both fit (for example, both a whole dialogue after their facts), one gets another distance.
    """
    plan = _Grid(num_turns, max_facts)
    missing = _place_questions(plan, num_turns, shares.ask, distances, max_facts, rng)
    free = plan.free_turns()
    _shuffle(free, rng)
    first = plan.first_question()
    again = [turn for turn in free if turn > first][: _whole(num_turns * shares.ask_again, rng)]
    unknown = [turn for turn in free if turn not in again][: _whole(num_turns * shares.ask_unknown, rng)]
    rest = [turn for turn in free if turn not in again and turn not in unknown]
    chat = rest[: _whole(num_turns * shares.chat, rng) + missing]
    actions: list[tuple[Action, list[int]]] = [("ask-again", again), ("ask-unknown", unknown), ("chat", chat)]
    for action, turns in actions:
        for turn in turns:
            plan.events[turn] = Event(action)
    return [event or plan.telling(turn) for turn, event in enumerate(plan.events)]


def _place_questions(
    plan: "_Grid", num_turns: int, share: float, distances: Distances, max_facts: int, rng: random.Random
) -> int:
    """Place the questions of a dialogue, each with its telling, and return the number that did not fit."""
    drawn = [distances.draw(rng) for _ in range(_whole(num_turns * share, rng))]
    waiting = accumulate(drawn, initial=0)
    fitting = [
        distance for distance, before in zip(drawn, waiting, strict=False) if before < _FILL * max_facts * num_turns
    ]
    placed = 0
    for distance in sorted(fitting, reverse=True):  # longest first: they fit in the fewest places
        for _ in range(_REDRAWS):
            if plan.place(distance, rng):
                placed += 1
                break
            distance = distances.draw(rng)
    return len(drawn) - placed


def plan_stream(shares: Shares, distances: Distances, max_facts: int, rng: random.Random) -> Iterator[Event]:
    """Plan an endless conversation; a question whose turn is taken is asked in the next free turn."""
    due: dict[int, int] = {}
    rest = 1 - shares.ask
    chat = shares.chat / rest
    unknown = chat + shares.ask_unknown / rest
    again = unknown + shares.ask_again / rest
    asked = shares.ask / shares.tell if shares.tell else 0.0
    turn = 0
    while True:
        if turn in due:
            yield Event("ask", due.pop(turn))
        else:
            chance = rng.random()
            if chance < chat or (chance >= again and len(due) >= max_facts):
                yield Event("chat")
            elif chance < unknown:
                yield Event("ask-unknown")
            elif chance < again:
                yield Event("ask-again")
            elif rng.random() >= asked:
                yield Event("tell")
            else:
                question = turn + distances.draw(rng)
                while question in due:
                    question += 1
                due[question] = turn
                yield Event("tell", question)
        turn += 1


_TRIES = 12  # random places tried before all
_REDRAWS = 4
_FILL = 0.7  # largest share of all facts' turns that may be spent waiting for a question


class _Grid:
    """The turns of a dialogue while its questions are placed."""

    def __init__(self, num_turns: int, max_facts: int) -> None:
        self.events: list[Event | None] = [None] * num_turns
        self._waiting = [0] * num_turns  # facts told and not yet asked for, after each turn
        self._max_facts = max_facts

    def place(self, distance: int, rng: random.Random) -> bool:
        """Place a telling and its question `distance` turns apart at random; False if they fit nowhere."""
        num_starts = len(self.events) - distance
        if num_starts < 1:
            return False
        for _ in range(_TRIES):
            if self._try(int(rng.random() * num_starts), distance):
                return True
        starts = list(range(num_starts))
        _shuffle(starts, rng)
        return any(self._try(start, distance) for start in starts)

    def _try(self, start: int, distance: int) -> bool:
        events, end = self.events, start + distance
        if events[start] is not None or events[end] is not None:
            return False
        if max(self._waiting[start:end]) >= self._max_facts:
            return False
        events[start], events[end] = Event("tell", end), Event("ask", start)
        for turn in range(start, end):
            self._waiting[turn] += 1
        return True

    def free_turns(self) -> list[int]:
        """Return the turns without a plan."""
        return [turn for turn, event in enumerate(self.events) if event is None]

    def first_question(self) -> int:
        """Return the turn of the first question, or the number of turns if there is none."""
        questions = (turn for turn, event in enumerate(self.events) if event and event.action == "ask")
        return next(questions, len(self.events))

    def telling(self, turn: int) -> Event:
        """Return a telling without a question, or small talk if `max_facts` facts are waiting."""
        return Event("tell" if self._waiting[turn] < self._max_facts else "chat")


def _whole(expected: float, rng: random.Random) -> int:
    """Round to a whole number so that the mean is kept."""
    return int(expected + rng.random())


def _shuffle(items: list[int], rng: random.Random) -> None:
    # By random() alone: it gives the same numbers in every version of Python, shuffle() need not.
    for last in range(len(items) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        items[last], items[other] = items[other], items[last]

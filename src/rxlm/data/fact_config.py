"""The configuration of generated dialogues: their length, their values, and how often they tell, change and ask."""

from typing import Any, Literal, get_args

from rxlm.config import Config, config, require, require_choice, require_int, require_share
from rxlm.data.fact_kinds import AnswerWording, Variety, fact_kinds
from rxlm.data.fact_plans import DistanceLaw, Shares

TURN_SHARES = ("question_share", "repeat_share", "unknown_share", "chatter_share", "update_share")
Split = Literal["train", "test"]
Values = Literal["shared", "disjoint"]


@config
class FactsConfig(Config):
    """Length, content and shares of turns of generated dialogues.

    Fields:
        num_turns: turns of a dialogue.
        variety: "small" has 8 kinds of 20 values in a few short wordings, "full" many kinds, values and wordings.
        split: "train" or "test".
        values: "shared" by both splits, or "disjoint" (four in five are for training).
        max_facts: kinds of fact in one conversation, and so the most facts that it holds at once.
        question_share: share of turns that ask for a fact that was told.
        repeat_share: share of these questions that ask again for the same fact.
        unknown_share: share of turns that ask for a fact that was never told.
        chatter_share: share of turns of small talk, which needs no memory. All other turns tell facts.
        update_share: share of tellings that change a fact told before, if one can be changed.
        world_share: share of turns of small talk that ask about the world, which is to be known without being told.
        min_distance, max_distance: bounds of the distance from fact to question in turns; None: num_turns - 1.
        distance_law: distribution of distances within these bounds: "uniform", or "log-uniform" (proportional to
            1/distance).
        answer_wording: words of the answers to questions: "varied", or "plain", one wording for each kind of fact and
            one for what was never told, whose first word is no other's: nothing but the fact decides what is said.
        seed: other seeds give other dialogues.
    """

    num_turns: int = 8
    variety: Variety = "small"
    split: Split = "train"
    values: Values = "shared"
    max_facts: int = 6
    question_share: float = 0.4
    repeat_share: float = 0.0
    unknown_share: float = 0.05
    chatter_share: float = 0.1
    update_share: float = 0.5
    world_share: float = 0.0
    min_distance: int = 1
    max_distance: int | None = None
    distance_law: DistanceLaw = "uniform"
    answer_wording: AnswerWording = "varied"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            require_choice(self, name, choices)
        require_share(self, *TURN_SHARES, "world_share")
        require_int(self, "num_turns", minimum=2)
        require_int(self, "max_facts", maximum=len(fact_kinds(self.variety)))
        require_int(self, "min_distance", maximum=self.num_turns - 1)
        require_int(self, "max_distance", minimum=self.min_distance)
        shares = self.shares
        require(
            shares.tell >= shares.ask - 1e-9,
            "FactsConfig: question_share, unknown_share and chatter_share must leave as many turns for telling "
            f"facts as ask for them the first time ({shares.ask:.0%}), and leave {max(shares.tell, 0):.0%}.",
        )

    @property
    def shares(self) -> Shares:
        """Shares of turns by what they do."""
        return Shares(
            ask=self.question_share * (1 - self.repeat_share),
            ask_again=self.question_share * self.repeat_share,
            ask_unknown=self.unknown_share,
            chat=self.chatter_share,
        )


def turn_shares(of: Config) -> dict[str, Any]:
    """Return the shares of turns that a configuration has fields for; `ConfigError` where they do not fit together."""
    shares = {name: getattr(of, name) for name in TURN_SHARES}
    FactsConfig(**shares)
    return shares


_CHOICES = {
    "variety": get_args(Variety),
    "split": get_args(Split),
    "values": get_args(Values),
    "distance_law": get_args(DistanceLaw),
    "answer_wording": get_args(AnswerWording),
}

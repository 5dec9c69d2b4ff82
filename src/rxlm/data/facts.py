"""A seeded generator of dialogues in which users tell facts, change them, ask for them later, and chat in between.

Dialogue number i of a configuration is always the same. Training and test dialogues share words and values, but not
combinations: each pair of facts is either for training or for test. A training dialogue never holds two facts that are
a test pair. In a test dialogue, each fact but the first is a test pair with a fact told before. With
`values="disjoint"` the values differ, too.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_conversations import FactConversation, KindValues
from rxlm.data.fact_kinds import fact_kinds
from rxlm.data.fact_plans import Distances, plan_dialogue, plan_stream
from rxlm.data.records import Dialogue, Interaction


class FactGenerator:
    """Dialogues and endless conversations about facts; the number of one decides its content.

    Args:
        config: of the dialogues.
        more_values: further values by name of their kind, for training with `values="disjoint"`: three in four facts
            then have one of these.
    """

    def __init__(self, config: FactsConfig, more_values: Mapping[str, Sequence[str]] | None = None) -> None:
        if more_values and (config.values, config.split) != ("disjoint", "train"):
            raise ValueError(
                'more_values are for training with values="disjoint", '
                f"got values={config.values!r} and split={config.split!r}."
            )
        self.config = config
        kinds = enumerate(fact_kinds(config.variety))
        self._kinds = [
            KindValues(number, kind, config, (more_values or {}).get(kind.name, ())) for number, kind in kinds
        ]
        longest = config.max_distance or config.num_turns - 1
        self._stream_distances = Distances(config.distance_law, config.min_distance, longest)

    def dialogue(self, index: int, num_turns: int | None = None) -> Dialogue:
        """Return dialogue number `index`, of `num_turns` turns; None: of `config.num_turns`.

        ValueError if a dialogue of so many turns has no question as far from its fact as `config.min_distance`.
        """
        rng = self._rng("dialogue", index)
        config = self.config
        turns = config.num_turns if num_turns is None else num_turns
        if turns <= config.min_distance:
            raise ValueError(f"num_turns must be more than min_distance, which is {config.min_distance}, got {turns}")
        distances = Distances(config.distance_law, config.min_distance, min(config.max_distance or turns, turns - 1))
        plan = plan_dialogue(turns, config.shares, distances, config.max_facts, rng)
        conversation = FactConversation(config, self._kinds, rng)
        made = tuple(conversation.turn(number, event) for number, event in enumerate(plan))
        return Dialogue(made, source=f"facts {config.split} seed {config.seed} dialogue {index}")

    def dialogues(self, count: int) -> "FactDialogues":
        """Return the first `count` dialogues, as a sequence that generates each on access."""
        return FactDialogues(self, range(count))

    def stream(self, index: int) -> Iterator[Interaction]:
        """Yield the turns of conversation number `index`, which never ends."""
        rng = self._rng("stream", index)
        config = self.config
        conversation = FactConversation(config, self._kinds, rng)
        for number, event in enumerate(plan_stream(config.shares, self._stream_distances, config.max_facts, rng)):
            yield conversation.turn(number, event)

    def kind(self, name: str) -> KindValues:
        """Return a kind of fact by its name, with the values that these dialogues may use."""
        return next(each for each in self._kinds if each.kind.name == name)

    def _rng(self, form: str, index: int) -> random.Random:
        return random.Random(f"{self.config.seed}/{self.config.split}/{form}/{index}")


class FactDialogues(Sequence[Dialogue]):
    """A sequence that generates its dialogues on access and stores none; a slice is one, too."""

    def __init__(self, generator: FactGenerator, indices: range) -> None:
        self.generator = generator
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> "FactDialogues": ...
    def __getitem__(self, index: int | slice) -> "Dialogue | FactDialogues":
        if isinstance(index, slice):
            return FactDialogues(self.generator, self._indices[index])
        return self.generator.dialogue(self._indices[index])


def texts_of(dialogues: Iterable[Dialogue]) -> Iterator[str]:
    """Yield queries, thoughts and answers of dialogues, for training a tokenizer."""
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield turn.query
            if turn.thought is not None:
                yield turn.thought
            yield turn.answer

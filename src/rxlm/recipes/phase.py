"""Phases: the parts of a stage that reads dialogues."""

import random

from rxlm.config import Config, config, require_int


@config
class DialoguePhase(Config):
    """A part of a stage: `steps` steps over dialogues of `num_turns` turns, or streams read so many turns at a time.

    Fields:
        steps: optimizer steps.
        num_turns: turns of a batch; longer dialogues are cut, but in streams.
        fewest_turns: in recipes of upcycled models, turns of the shortest generated dialogues: each draws its number
            from these to `num_turns`, n as likely as 1 / n, so that a step learns of dialogues of all lengths. None:
            all have `num_turns`.
        streams: whether rows go on, batch after batch, with the memory that they have.
        reset_probability: of each row of streams, at each batch.
        window_turns: in retention, turns that are learnt from at once, a batch each; those before them are kept as in a
            conversation, and no gradient reaches them. None: all turns of a dialogue.
        batch_size: rows of a batch, where it is not that of the stage.
    """

    steps: int
    num_turns: int
    fewest_turns: int | None = None
    streams: bool = False
    reset_probability: float = 0.1
    window_turns: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        require_int(self, "steps", "window_turns", "batch_size")
        require_int(self, "num_turns", minimum=2)
        require_int(self, "fewest_turns", minimum=2, maximum=self.num_turns)

    def turns_of(self, number: int) -> int:
        """Return the turns of generated dialogue `number`."""
        if self.fewest_turns is None:
            return self.num_turns
        draw = random.Random(f"turns/{number}").random()
        return int(self.fewest_turns * ((self.num_turns + 1) / self.fewest_turns) ** draw)

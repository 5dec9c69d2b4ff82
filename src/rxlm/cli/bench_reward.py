"""`rxlm bench reward`: whether a reward model prefers what people preferred, and whether its memory is why."""

from typing import Annotated

import tyro

from rxlm.cli.output import Output
from rxlm.cli.results import rich_table
from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_kinds import Variety
from rxlm.data.fact_preferences import FROM_MEMORY, FactPreferences
from rxlm.data.facts import FactGenerator
from rxlm.data.fields import BadRecords
from rxlm.data.preference_files import read_preferences

TITLE = "Better answers that score higher (half for a draw)"


def reward(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    preferences: tuple[str, ...] = (),
    bad_records: BadRecords = "stop",
    pairs: int = 500,
    variety: Variety = "small",
    turns: int = 8,
) -> None:
    """Measure how often a reward model prefers the better of two answers, by what differs, and without its memory.

    Without the memory, answers that only the conversation tells apart must be at chance, 50 %.

    Example: rxlm bench reward runs/tiny/6-reward/reward

    Args:
        model: folder or hub id of a reward model, which the stage "reward" of a recipe makes.
        preferences: files of pairs that it has not learnt from; generated pairs if not given.
        bad_records: what is done about a record that cannot be used: stop, or skip.
        pairs: how many generated pairs.
        variety: of the generated dialogues: small (as the recipe tiny has them) or full.
        turns: of a generated dialogue.
    """
    from rxlm.rxt.reward_model import RewardModel  # slow to import, and not needed for --help
    from rxlm.training.feedback.accuracy import accuracies, compare
    from rxlm.training.feedback.reward import turn_tokenizer_of

    loaded = RewardModel.from_pretrained(model)
    turn_tokenizer = turn_tokenizer_of(loaded)
    console = Output()
    if preferences:
        read = read_preferences(preferences, turn_tokenizer, bad_records=bad_records)
        found = read.compared
        if not found:
            raise ValueError(f"{', '.join(preferences)} has no pairs: a reward model is measured on those.")
        if read.skipped:
            console.print(f"{len(read.skipped):,} records cannot be used and are skipped: {read.skipped[0]}")
    else:
        config = FactsConfig(variety=variety, num_turns=turns, split="test", seed=1)
        found = FactPreferences(FactGenerator(config), pairs)[:]
    rows = [
        (name, f"{each.with_memory:.1%}", f"{each.without_memory:.1%}", f"{each.count:,}")
        for name, each in accuracies(compare(loaded, found, turn_tokenizer), FROM_MEMORY).items()
    ]
    console.print(rich_table(TITLE, ("what differs", "with memory", "without memory", "pairs"), rows))

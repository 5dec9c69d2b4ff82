"""The recipe `babi`: twenty kinds of small reasoning tasks (Weston et al., 2015), in one model.

Each statement of a story is a turn that is acknowledged, each question a turn; what a question needs was said in
earlier turns, so that the answer can come from the memory alone.
"""

from rxlm.config import config, require, require_int
from rxlm.data.babi import ALL_TASKS, HEADLINE_TASKS
from rxlm.recipes.babi_corpus import AIM_TASKS, BabiCorpus
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import ReactiveRecipe, model_of_size, reinforcement
from rxlm.recipes.stages import MemoryAwareStage, interactions_stage, steps_of
from rxlm.training.config import OptimizerConfig
from rxlm.training.memory_aware import MemoryAwareConfig

OFTEN = {1: 4, 6: 4, 9: 4, 10: 5, 12: 4, 15: 6}
"""How often training draws a story of some of the headline's tasks; of the others twice. See `BabiRecipe.draws`."""


@config
class BabiRecipe(ReactiveRecipe):
    """A run on files of the bAbI tasks.

    Fields:
        data: folder of the files, qa1_..._train.txt and so on.
        tasks: numbers of the tasks to learn.
        draws: pairs of a task and how often training draws a story of it, where others are drawn once: by default twice
            for the headline's tasks, four times for those of them that ask where one of several people is, and more
            often for what is learnt last: maybe (10), and deduction (15).
        first_tasks, first_phase_turns: the tasks that phases of stage 4 with so few turns have alone: who is where must
            be learnt before much else can be, and it comes soonest where nothing else is asked. Where there are such
            phases, at least one of these tasks must be among `tasks`.
        validation: share of the stories that is held out.
        evaluation_stories: held-out stories of each task that the model is asked while it trains.
    """

    data: str | None = None
    tasks: tuple[int, ...] = HEADLINE_TASKS
    draws: tuple[tuple[int, int], ...] = tuple((task, OFTEN.get(task, 2)) for task in AIM_TASKS)
    first_tasks: tuple[int, ...] = (1, 12)
    first_phase_turns: int = 0
    validation: float = 0.1
    evaluation_stories: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "evaluation_stories")
        require_int(self, "first_phase_turns", minimum=0)
        require(
            set(self.first_tasks) <= set(ALL_TASKS),
            f"BabiRecipe.first_tasks must be numbers from 1 to 20, got {list(self.first_tasks)}.",
        )
        require(
            bool(self.tasks) and set(self.tasks) <= set(ALL_TASKS),
            f"BabiRecipe.tasks must be numbers from 1 to 20, got {list(self.tasks)}.",
        )
        phases = [phase for stage in self.stages if isinstance(stage, MemoryAwareStage) for phase in stage.phases]
        has_own = any(phase.num_turns <= self.first_phase_turns for phase in phases)
        require(
            not has_own or not set(self.first_tasks).isdisjoint(self.tasks),
            f"BabiRecipe.first_tasks must have some of tasks, {list(self.tasks)}, got {list(self.first_tasks)}; or set "
            "first_phase_turns to 0, and no phase has tasks of its own.",
        )
        require(
            all(task in ALL_TASKS and isinstance(times, int) and times >= 1 for task, times in self.draws),
            f"BabiRecipe.draws must be pairs of a task from 1 to 20 and a number of at least 1, got {self.draws}.",
        )
        require(0 < self.validation < 1, f"BabiRecipe.validation must be between 0 and 1, got {self.validation}.")

    def open_corpus(self) -> BabiCorpus:
        """Read the files."""
        require(self.data is not None, "The recipe babi needs the folder of the bAbI files: --data FOLDER.")
        return BabiCorpus(self)


def babi() -> BabiRecipe:
    """All tasks in one model, in an hour and a half on one core."""
    reading = (
        DialoguePhase(steps=400, num_turns=3, batch_size=128),
        DialoguePhase(steps=500, num_turns=4, batch_size=96),
    )
    optimizer = OptimizerConfig(learning_rate=5e-4, warmup_steps=50)
    dialogues = MemoryAwareStage(
        **steps_of(
            *reading,
            DialoguePhase(steps=600, num_turns=4, batch_size=96),
            DialoguePhase(steps=400, num_turns=6, batch_size=64),
            DialoguePhase(steps=400, num_turns=8, batch_size=48),
            DialoguePhase(steps=2700, num_turns=16, batch_size=24, streams=True, reset_probability=0.02),
        ),
        batch_size=24,
        optimizer=optimizer,
        evaluate_every=500,
        checkpoint_every=200,
        settings=MemoryAwareConfig(unroll=16, read_encoded_until=sum(phase.steps for phase in reading)),
    )
    return BabiRecipe(
        name="babi",
        vocab_size=512,
        whole_words=True,
        first_phase_turns=3,
        **model_of_size("tiny", num_layers=3, num_slots=24),
        stages=(
            interactions_stage(steps=120, batch_size=256, optimizer=optimizer, checkpoint_every=None),
            dialogues,
            reinforcement(steps=300, num_turns=16, batch_size=64, told_weight=0.5),
        ),
    )

"""The recipe `babi`: twenty kinds of small reasoning tasks (Weston et al., 2015), in one model.

Each statement of a story is a turn that is acknowledged, each question a turn; what a question needs was said in
earlier turns, so that the answer can come from the memory alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import get_args

from rxlm.config import config, require, require_int
from rxlm.data.babi import ALL_TASKS, HEADLINE_TASKS, TASK_NOTES, hold_out, read_babi
from rxlm.data.dialogue_pieces import DrawnConversations, answerable_pieces, question_windows
from rxlm.data.facts import texts_of
from rxlm.data.records import Dialogue, Question
from rxlm.data.scoring import is_same_answer
from rxlm.mrq_bench.reading import perplexity, read_dialogues
from rxlm.mrq_bench.retention import Control, answer_dialogues
from rxlm.recipes.corpus import BatchMaker, Corpus, Results, ResultTable
from rxlm.recipes.facts import converse
from rxlm.recipes.perplexities import is_follow_up
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import Recipe, model_of_size, reinforcement
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.memory_aware import MemoryAwareConfig
from rxlm.training.trainer import Batches

AIM_TASKS = (1, 6, 9, 10, 11, 12, 13, 15, 20)
"""The tasks whose mean accuracy is the headline."""


@config
class BabiRecipe(Recipe):
    """A run on files of the bAbI tasks.

    Fields:
        data: folder of the files, qa1_..._train.txt and so on.
        tasks: numbers of the tasks to learn.
        draws: pairs of a task and how often training draws a story of it, where others are drawn once: by default twice
            for the headline's tasks, and four times for those of them that ask where one of several people is.
        first_tasks, first_phase_turns: the tasks that phases of stage 4 with so few turns have alone: who is where must
            be learnt before much else can be, and it comes soonest where nothing else is asked. Where there are such
            phases, at least one of these tasks must be among `tasks`.
        validation: share of the stories that is held out.
        evaluation_stories: held-out stories of each task that the model is asked while it trains.
    """

    data: str | None = None
    tasks: tuple[int, ...] = HEADLINE_TASKS
    draws: tuple[tuple[int, int], ...] = tuple((task, 4 if task in (1, 6, 9, 10, 12) else 2) for task in AIM_TASKS)
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
        has_own = any(phase.num_turns <= self.first_phase_turns for phase in self.phases)
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

    def corpus(self) -> "BabiCorpus":
        """Read the files."""
        require(self.data is not None, "The recipe babi needs the folder of the bAbI files: --data FOLDER.")
        return BabiCorpus(self)


class BabiCorpus(Corpus):
    """Stories of the tasks; training draws some tasks more often than others."""

    def __init__(self, recipe: BabiRecipe) -> None:
        self.recipe = recipe
        stories = read_babi(str(recipe.data), tasks=recipe.tasks)
        self.training, self.validation = hold_out(stories, recipe.validation)

    def texts(self) -> Iterable[str]:
        """Return all that training stories say."""
        return texts_of(self.training)

    def language(self, make: BatchMaker) -> Batches:
        """Return turns: a story has no other text."""
        return self.interactions(make)

    def interactions(self, make: BatchMaker) -> Batches:
        """Return turns."""
        turns = [turn for story in self.training for turn in story.turns]
        return make.shuffled(turns, make.turn_tokenizer.interaction_batch)

    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return whole stories one after another in streams, else questions with the turns before them."""
        stories = self.training
        if phase.num_turns <= self.recipe.first_phase_turns:
            stories = [story for story in stories if story.details["task"] in self.recipe.first_tasks]
        if not phase.streams:
            stories = [window for story in stories for window in question_windows(story, phase.num_turns)]
        draws = dict(self.recipe.draws)
        groups = [group for task, group in by_task(stories).items() for _ in range(draws.get(task, 1))]
        return make.streams(DrawnConversations(groups, seed=make.seed), phase)

    def episodes(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return whole stories, and of longer ones questions with the turns before them."""
        pieces = [piece for story in self.training for piece in answerable_pieces(story, phase.num_turns)]
        return make.dialogues(pieces)

    def held_out(self) -> Sequence[Dialogue]:
        """Return the stories that a model in training is asked."""
        count = self.recipe.evaluation_stories
        return [story for stories in by_task(self.validation).values() for story in stories[:count]]

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Measure on some held-out stories of each task.

        Returns exact accuracy, the headline's mean first, and the perplexity of reference answers.
        """
        right: dict[int, list[bool]] = defaultdict(list)
        reads = list(read_dialogues(model, self.held_out()))
        for read in reads:
            if read.turn.question is not None:
                right[read.dialogue.details["task"]].append(read.is_exact)
        accuracy = {task: fmean(exact) for task, exact in sorted(right.items())}
        aim = [share for task, share in accuracy.items() if task in AIM_TASKS]
        means = ({"accuracy_headline": fmean(aim)} if aim else {}) | {"accuracy": fmean(accuracy.values())}
        by_name = {f"accuracy/task_{task}": share for task, share in accuracy.items()}
        return means | by_name | {"perplexity": perplexity(reads, is_follow_up)}

    def results(self, model: RxTAlpha) -> Results:
        """Ask all held-out stories, with the memory and without."""
        true, empty = (accuracy_by_task(model, self.validation, control) for control in get_args(Control))
        rows = [
            (f"{task}{'*' if task in TASK_NOTES else ''}", f"{share:.1%}", f"{empty[task][0]:.1%}", f"{count}")
            for task, (share, count) in true.items()
        ]
        for label, tasks in (("mean of the headline's tasks", AIM_TASKS), ("mean of all", tuple(true))):
            present = [task for task in tasks if task in true]
            if present:
                means = [fmean(figures[task][0] for task in present) for figures in (true, empty)]
                rows.append((label, f"{means[0]:.1%}", f"{means[1]:.1%}", ""))
        note = (
            "Exact answers on held-out stories of the training files. The headline's tasks are "
            f"{', '.join(map(str, AIM_TASKS))}."
        )
        table = ResultTable("bAbI", ("task", "accuracy", "empty memory", "questions"), tuple(rows), note)
        return Results((table,), self._conversation(model))

    def _conversation(self, model: RxTAlpha) -> tuple[tuple[str, str], ...]:
        """Let the model live through the first held-out story."""
        return converse(model, [turn.query for turn in self.validation[0].turns])


def by_task(stories: Iterable[Dialogue]) -> dict[int, list[Dialogue]]:
    """Return stories by the number of their task."""
    tasks: dict[int, list[Dialogue]] = defaultdict(list)
    for story in stories:
        tasks[story.details["task"]].append(story)
    return dict(sorted(tasks.items()))


def accuracy_by_task(
    model: RxTAlpha, stories: Sequence[Dialogue], control: Control = "none"
) -> dict[int, tuple[float, int]]:
    """Return the share of questions that are answered exactly, and their number, for each task."""
    right: dict[int, list[bool]] = defaultdict(list)
    tasks = {story.source: story.details["task"] for story in stories}

    def is_right(answer: str, question: Question) -> bool:
        return is_same_answer(answer, question.expected[0])

    for answer in answer_dialogues(model.eval(), sorted(stories, key=len), is_right, control=control):
        right[tasks[answer.dialogue]].append(answer.is_right)
    return {task: (fmean(answers), len(answers)) for task, answers in sorted(right.items())}


def babi() -> BabiRecipe:
    """All tasks in one model, in an hour on one core."""
    reading = (
        DialoguePhase(steps=400, num_turns=3, batch_size=128),
        DialoguePhase(steps=500, num_turns=4, batch_size=96),
    )
    phases = (
        *reading,
        DialoguePhase(steps=600, num_turns=4, batch_size=96),
        DialoguePhase(steps=400, num_turns=6, batch_size=64),
        DialoguePhase(steps=400, num_turns=8, batch_size=48),
        DialoguePhase(steps=1200, num_turns=16, batch_size=24, streams=True, reset_probability=0.02),
    )
    optimizer = OptimizerConfig(learning_rate=5e-4, warmup_steps=50)
    return BabiRecipe(
        name="babi",
        vocab_size=512,
        whole_words=True,
        first_phase_turns=3,
        **model_of_size("tiny", num_layers=3, num_slots=24),
        interactions=TrainingConfig(steps=120, batch_size=256, optimizer=optimizer, checkpoint_every=None),
        dialogues=TrainingConfig(
            steps=sum(phase.steps for phase in phases),
            batch_size=24,
            optimizer=optimizer,
            evaluate_every=500,
            checkpoint_every=200,
        ),
        dialogues_settings=MemoryAwareConfig(unroll=16, read_encoded_until=sum(phase.steps for phase in reading)),
        phases=phases,
        **reinforcement(steps=300, num_turns=16, batch_size=64, told_weight=0.5),
    )

"""What the recipe `babi` learns from and is measured on: stories of the bAbI tasks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rxlm.data.babi import TASK_NOTES, hold_out, read_babi
from rxlm.data.dialogue_pieces import DrawnConversations, answerable_pieces, question_windows
from rxlm.data.facts import texts_of
from rxlm.data.records import Dialogue, Question
from rxlm.data.scoring import is_same_answer
from rxlm.mrq_bench.answered_questions import CONTROLS
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.teacher_forcing import perplexity, predict_answers
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.facts import converse
from rxlm.recipes.perplexities import is_follow_up
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recall import answer_together
from rxlm.recipes.run_results import ResultTable, RunResults
from rxlm.rxt.models import RxTAlpha
from rxlm.training.trainer import Batches

if TYPE_CHECKING:
    from rxlm.recipes.babi import BabiRecipe

AIM_TASKS = (1, 6, 9, 10, 11, 12, 13, 15, 20)
"""The tasks whose mean accuracy is the headline."""


class BabiCorpus(Corpus):
    """Stories of the tasks; training draws some tasks more often than others."""

    def __init__(self, recipe: "BabiRecipe") -> None:
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
        predicted = list(predict_answers(model, self.held_out()))
        for answer in predicted:
            if answer.turn.question is not None:
                right[answer.dialogue.details["task"]].append(answer.is_exact)
        accuracy = {task: fmean(exact) for task, exact in sorted(right.items())}
        aim = [share for task, share in accuracy.items() if task in AIM_TASKS]
        means = ({"accuracy_headline": fmean(aim)} if aim else {}) | {"accuracy": fmean(accuracy.values())}
        by_name = {f"accuracy/task_{task}": share for task, share in accuracy.items()}
        return means | by_name | {"perplexity": perplexity(predicted, is_follow_up)}

    def results(self, model: RxTAlpha) -> RunResults:
        """Ask all held-out stories, with the memory and without."""
        true, empty = (accuracy_by_task(model, self.validation, control) for control in CONTROLS)
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
        return RunResults((table,), self._conversation(model))

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

    for answer in answer_together(model, sorted(stories, key=len), is_right, control=control):
        right[tasks[answer.dialogue]].append(answer.is_right)
    return {task: (fmean(answers), len(answers)) for task, answers in sorted(right.items())}

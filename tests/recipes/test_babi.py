"""The recipe `babi` on a few stories: held-out stories stay out, every task is asked, and questions come in windows."""

from pathlib import Path

import pytest

from rxlm.config import ConfigError
from rxlm.recipes import babi
from rxlm.recipes.babi import BabiRecipe
from rxlm.recipes.babi_corpus import accuracy_by_task
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import ReactiveRun
from small_recipes import quick

PEOPLE = ("Mary", "John", "Sandra", "Daniel")
PLACES = ("office", "garden", "kitchen", "hallway", "bathroom")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> BabiRecipe:
    folder = tmp_path_factory.mktemp("babi")
    for task, filler in ((1, 0), (6, 2)):
        lines = []
        for number in range(40):
            person, place = PEOPLE[number % 4], PLACES[number % 5]
            story = [f"{person} went to the {place}.", *[f"{PEOPLE[(number + 1) % 4]} sang."] * filler]
            lines += [f"{place_in} {text}" for place_in, text in enumerate(story, 1)]
            lines.append(f"{len(story) + 1} Where is {person}?\t{place}\t1")
        (folder / f"qa{task}_some-task_train.txt").write_text("\n".join(lines) + "\n")
    return quick(babi(), data=str(folder), tasks=(1, 6), validation=0.3)


def batch_maker(run: ReactiveRun) -> BatchMaker:
    return BatchMaker(run.turn_tokenizer, run.tokens, batch_size=4, accumulation=1, seed=0)


def test_the_run_asks_every_task_with_and_without_memory(recipe: BabiRecipe, tmp_path: Path) -> None:
    run = ReactiveRun(recipe, tmp_path / "run")
    results = run.results(run.train())

    table = results.tables[0]
    assert table.header == ("task", "accuracy", "empty memory", "questions")
    assert [row[0] for row in table.rows] == ["1", "6", "mean of the headline's tasks", "mean of all"]
    questions = {task: sum(s.details["task"] == task for s in run.corpus.validation) for task in (1, 6)}
    assert [row[3] for row in table.rows[:2]] == [str(questions[1]), str(questions[6])]


def test_held_out_stories_are_never_trained_on(recipe: BabiRecipe) -> None:
    corpus = recipe.open_corpus()
    held = {tuple(turn.query for turn in story.turns) for story in corpus.validation}

    assert held
    assert not held & {tuple(turn.query for turn in story.turns) for story in corpus.training}


def test_phases_ask_in_windows_and_streams_tell_whole_stories(recipe: BabiRecipe, tmp_path: Path) -> None:
    run = ReactiveRun(recipe, tmp_path / "run")
    windows = next(run.corpus.dialogues(batch_maker(run), DialoguePhase(steps=1, num_turns=2)))
    assert windows.fresh[0].all()
    assert not windows.fresh[1].any()
    assert {turns[1].question is not None for turns in windows.interactions} == {True}

    streams = next(run.corpus.dialogues(batch_maker(run), DialoguePhase(steps=1, num_turns=8, streams=True)))
    lengths = [len(" ".join("x" if f else "." for f in row.tolist()).split("x")) for row in streams.fresh.T]
    assert all(2 <= length - 1 <= 4 for length in lengths)  # stories of two and of four turns in eight


def test_the_first_tasks_have_short_phases_alone_and_draws_say_how_often(recipe: BabiRecipe, tmp_path: Path) -> None:
    chosen = recipe.replace(first_tasks=(6,), first_phase_turns=4, draws=((1, 3),))
    run = ReactiveRun(chosen, tmp_path / "run")

    def kinds(num_turns: int) -> list[str]:
        batches = run.corpus.dialogues(batch_maker(run), DialoguePhase(steps=1, num_turns=num_turns))
        asked = [turn.question for _ in range(30) for turns in next(batches).interactions for turn in turns if turn]
        return [question.kind for question in asked if question is not None]

    assert set(kinds(4)) == {"task 6"}
    assert 0.6 < kinds(5).count("task 1") / len(kinds(5)) < 0.9


def test_short_phases_need_a_first_task_that_is_learnt(recipe: BabiRecipe) -> None:
    with pytest.raises(ConfigError, match=r"first_tasks must have some of tasks, \[6\], got \[1, 12\]"):
        recipe.replace(tasks=(6,))
    assert recipe.replace(tasks=(6,), first_phase_turns=0).tasks == (6,)


def test_episodes_are_whole_stories(recipe: BabiRecipe, tmp_path: Path) -> None:
    run = ReactiveRun(recipe, tmp_path / "run")
    batches = run.corpus.episodes(batch_maker(run), DialoguePhase(steps=1, num_turns=4))
    episodes = [episode for _ in range(10) for episode in next(batches).dialogues]

    assert all(episode in run.corpus.training for episode in episodes)


def test_evaluation_names_every_task_and_the_headline_first(recipe: BabiRecipe, tmp_path: Path) -> None:
    run = ReactiveRun(recipe, tmp_path / "run")
    figures = run.corpus.evaluate(run.new_model().eval())

    assert list(figures) == ["accuracy_headline", "accuracy", "accuracy/task_1", "accuracy/task_6", "perplexity"]


def test_stories_of_any_length_are_asked_side_by_side(recipe: BabiRecipe, tmp_path: Path) -> None:
    run = ReactiveRun(recipe, tmp_path / "run")
    model = run.new_model()
    stories = run.corpus.validation[::3]
    assert {len(story.turns) for story in stories} == {2, 4}
    together = accuracy_by_task(model, stories)
    alone = [accuracy_by_task(model, [story]) for story in stories]

    for task, (share, count) in together.items():
        each = [row[task] for row in alone if task in row]
        assert count == sum(number for _, number in each)
        assert share == pytest.approx(sum(part * number for part, number in each) / count)

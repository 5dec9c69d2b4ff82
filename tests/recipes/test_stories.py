"""The recipes `stories` and `nano` to `alpha` on a few local records: every stage runs and memories are compared."""

import gzip
import json
from pathlib import Path

import pytest

from rxlm.data.stories import fairytale_dialogue, fairytale_of
from rxlm.mrq_bench.arms import references_of
from rxlm.recipes import RECIPES, stories
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.recipes.scale import DataSource
from rxlm.recipes.stories import around_questions
from small_recipes import quick

BOOK = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n{}\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n"


def tale(name: str, number: int) -> dict[str, object]:
    sections = [" ".join(f"{name}-{part}-{word}" for word in range(12)) + f" had {number} horses." for part in "ab"]
    qa = [{"q": "How many horses had he?", "answers": [str(number)], "sections": "2", "attr": "setting"}]
    return {"story": name, "sections": sections, "section_ids": ["1", "2"], "qa": qa}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for folder in ("gutenberg-children", "simple-stories", "tinystories-sample", "fairytaleqa", "sgd"):
        (root / folder).mkdir()
    secret = " ".join(section for section in tale("hidden", 9)["sections"])  # type: ignore[union-attr]
    text = "\n\n".join([f"The fox ran over the hill number {number}." for number in range(40)] + [secret])
    (root / "gutenberg-children" / "book.txt").write_text(BOOK.format(text))
    pages = {"title": "The cat", "pages": ["A cat sat.", "It slept."]}
    (root / "simple-stories" / "stories.jsonl").write_text(json.dumps(pages) + "\n")
    story = "One day a girl found a ball. " * 10
    (root / "tinystories-sample" / "tiny_stories.txt").write_text(f"{story}\n{story}\n")
    for split, names in (("train", ["Tom", "Tim"]), ("val", ["hidden"])):
        rows = [json.dumps(tale(name, number)) for number, name in enumerate(names, 7)]
        (root / "fairytaleqa" / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    turns = [["U", "I want a table."], ["S", "For how many?"], ["U", "For two."], ["S", "Done."]]
    for split in ("train", "dev"):
        record = {"id": "1", "services": ["R"], "turns": turns, "final_state": {}}
        with gzip.open(root / "sgd" / f"{split}.jsonl.gz", "wt") as file:
            file.write((json.dumps(record) + "\n") * 3)
    return root


def test_the_run_compares_true_empty_and_shuffled_memory(data: Path, tmp_path: Path) -> None:
    run = ReactiveRun(quick(stories(), data=str(data)), tmp_path / "run")
    results = run.results(run.train())

    table = results.tables[0]
    assert table.header == ("answers", "true memory", "empty memory", "shuffled memory")
    assert [row[0] for row in table.rows] == ["SGD dev, turns after the first", "FairytaleQA val, questions"]
    assert all(float(cell) > 1 for cell in [*table.rows[0][1:], *table.rows[1][1:3]])
    assert table.rows[1][3] == "nan"  # a single tale has no other one's memory
    assert results.conversation[0][0] == "I want a table."


def test_tales_can_be_left_out(data: Path, tmp_path: Path) -> None:
    run = ReactiveRun(quick(stories(), data=str(data), fairytales=None), tmp_path / "run")
    results = run.results(run.train())

    assert [row[0] for row in results.tables[0].rows] == ["SGD dev, turns after the first"]
    assert [query for query, _ in results.conversation] == ["I want a table.", "For two."]


def test_what_is_measured_is_not_read_in_training(data: Path) -> None:
    corpus = stories().replace(data=str(data)).open_corpus()

    assert not any("hidden-a-3" in text for text in corpus.texts())
    assert any("fox ran" in text for text in corpus.texts())


@pytest.mark.parametrize("preset", ["nano"])
def test_a_recipe_of_the_papers_size_takes_local_files_for_the_hubs(preset: str, tmp_path: Path) -> None:
    def source(name: str, records: list[dict[str, object]]) -> DataSource:
        (tmp_path / name).write_text("\n".join(map(json.dumps, records)) + "\n")
        return DataSource(source=str(tmp_path / name))

    turn = {"query": "Who sat?", "answer": "The cat sat."}
    recipe = quick(
        RECIPES[preset](),
        vocab_size=300,
        text_data=source("text.jsonl", [{"text": "The cat sat on the mat. " * 5}] * 30),
        interaction_data=source("turns.jsonl", [turn] * 10),
        dialogue_data=source("talks.jsonl", [{**turn, "interactions": [turn, turn]}] * 10),
        validation_dialogues=2,
    )
    run = ReactiveRun(recipe, tmp_path / "run")
    results = run.results(run.train())

    assert [row[0] for row in results.tables[0].rows] == ["held-out dialogues"]
    assert len(results.conversation) == 3


def test_too_few_dialogues_to_hold_any_out_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"query": "a", "answer": "b", "interactions": [{"query": "a", "answer": "b"}]}\n'
    )
    (tmp_path / "turns.jsonl").write_text('{"query": "a", "answer": "b"}\n')
    (tmp_path / "text.txt").write_text("a\n")
    names = {"text_data": "text.txt", "interaction_data": "turns.jsonl", "dialogue_data": "x.jsonl"}
    recipe = RECIPES["nano"]().replace(
        **{field: DataSource(source=str(tmp_path / name)) for field, name in names.items()}
    )
    with pytest.raises(ValueError, match="validation_dialogues is 200"):
        recipe.open_corpus()


def test_a_part_of_a_tale_keeps_the_references_of_its_own_question() -> None:
    whole = fairytale_dialogue(fairytale_of(tale("Tom", 7), "here"))
    (part,) = around_questions(whole, 3)

    assert part.turns == whole.turns[1:]  # the question is about the second section alone
    assert [references_of(part, number) for number in (0, 1)] == [(), ("7",)]

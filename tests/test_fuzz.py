"""A bounded part of `make fuzz`: damaged files are accepted, or answered with an error that names them."""

from fuzzing.run import BAD, OUTCOMES, fuzz, table

CHEAP = ("jsonl", "json list", "sgd", "turns", "fairytaleqa", "qmsum", "picture", "gzip", "csv", "parquet", "babi")


def test_damaged_data_files_are_errors_with_their_place() -> None:
    for kind in CHEAP:
        counts, found = fuzz(12, seed=7, kinds=kind)
        assert found == []
        assert sum(counts.values()) == 12


def test_damaged_recipes_are_errors_with_their_place() -> None:
    assert fuzz(25, seed=7, kinds="recipe")[1] == []


def test_damaged_configurations_of_models_are_errors_with_their_place() -> None:
    assert fuzz(30, seed=7, kinds="model config")[1] == []


def test_the_table_counts_every_answer() -> None:
    counts, _ = fuzz(5, seed=1, kinds="babi")
    last = table(counts).splitlines()[-1].split()
    assert last[0] == "all"
    assert sum(map(int, last[1:])) == 5
    assert set(BAD) < set(OUTCOMES)

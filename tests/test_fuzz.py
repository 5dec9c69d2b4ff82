"""A bounded part of `make fuzz`: damaged files are accepted, or answered with an error that names them."""

import pytest
import torch

from fuzzing.judge import WrongValueError, check_tensors, check_texts
from fuzzing.run import BAD, OUTCOMES, fuzz, table
from rxlm.data.records import Interaction

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


def test_damaged_memories_and_conversations_are_errors_with_their_place() -> None:
    for kind in ("memory", "conversation", "transcript"):
        assert fuzz(25, seed=7, kinds=kind)[1] == []


def test_the_fuzz_sees_what_is_no_value() -> None:
    check_texts([Interaction("Who?", "7"), {"a": ("b", None, 3)}])
    for wrong in ([Interaction("Who?", "None")], {"a": ["\ud800"]}):
        with pytest.raises(WrongValueError):
            check_texts(wrong)
    with pytest.raises(WrongValueError):
        check_tensors([torch.ones(2), torch.tensor([1.0, torch.nan])])


def test_the_table_counts_every_answer() -> None:
    counts, _ = fuzz(5, seed=1, kinds="babi")
    last = table(counts).splitlines()[-1].split()
    assert last[0] == "all"
    assert sum(map(int, last[1:])) == 5
    assert set(BAD) < set(OUTCOMES)

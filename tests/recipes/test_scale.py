"""The data of the recipes `nano` to `alpha`: held out, checked, skipped where bad, and each process's own."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from rxlm.config import ConfigError
from rxlm.data.records import RecordError
from rxlm.data.tokenizer import train_tokenizer
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.recipes import RECIPES
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.scale import DataSource, ScaleCorpus
from rxlm.rxt.text import token_ids_of
from rxlm.training import distributed

TURNS = [{"query": "Who sat?", "answer": f"Cat {number}."} for number in range(12)]
TALKS = [{**TURNS[0], "query": f"Talk {number}?", "interactions": TURNS[1:2]} for number in range(20)]


def corpus(folder: Path, lines: list[str] | None = None, held_out: int = 5, **fields: Any) -> ScaleCorpus:
    """Read local data: dialogues of a table in row groups, interactions of two files."""
    (folder / "turns").mkdir(parents=True)
    (folder / "text.txt").write_text("The cat sat on the mat.\n" * 20)
    written = lines or [json.dumps(turn) for turn in TURNS]
    for number in range(2):
        (folder / "turns" / f"{number}.jsonl").write_text("\n".join(written[number::2]))
    parquet.write_table(pyarrow.Table.from_pylist(TALKS), folder / "talks.parquet", row_group_size=4)
    recipe = RECIPES["nano"]().replace(
        text_data=DataSource(source=str(folder / "text.txt")),
        interaction_data=DataSource(source=str(folder / "turns"), **fields),
        dialogue_data=DataSource(source=str(folder / "talks.parquet"), shuffle_buffer=3),
        validation_dialogues=held_out,
    )
    return recipe.open_corpus()


def maker(corpus: ScaleCorpus, batch_size: int) -> BatchMaker:
    tokenizer = train_tokenizer(corpus.texts(), 300)
    tokens = token_ids_of(tokenizer)
    return BatchMaker(TurnTokenizer(tokenizer, tokens, max_tokens=32), tokens, batch_size, accumulation=1, seed=0)


def test_the_first_dialogues_are_held_out_and_the_others_learnt_each_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, phase = corpus(tmp_path), DialoguePhase(steps=1, num_turns=2)
    assert [dialogue.turns[0].query for dialogue in data.validation] == [f"Talk {number}?" for number in range(5)]
    make, learnt = maker(data, 15), {f"Talk {number}?" for number in range(5, 20)}
    assert Counter(turns[0].query for turns in next(data.dialogues(make, phase)).interactions) == Counter(learnt)

    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    seen = set[str]()
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        seen |= {turns[0].query for turns in next(data.dialogues(make, phase)).interactions}
    assert seen == learnt, "in three epochs each process has every share"


def test_interactions_are_read_by_one_process_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = corpus(tmp_path)
    make = maker(data, 6)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append({tuple(row) for row in next(data.interactions(make)).ids.tolist()})
    assert [len(share) for share in shares] == [6, 6]
    assert not shares[0] & shares[1]


def test_a_bad_record_stops_before_training_or_is_skipped(tmp_path: Path) -> None:
    lines = [json.dumps(turn) for turn in TURNS]
    lines[4] = json.dumps({"query": "Who?"})
    with pytest.raises(RecordError, match=r"0\.jsonl, line 3: field 'answer' is missing"):
        corpus(tmp_path / "stop", lines)
    data = corpus(tmp_path / "skip", lines, bad_records="skip")
    assert sum(1 for _ in data.turns) == 11
    assert next(data.interactions(maker(data, 30))).batch_size == 30


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shuffle_buffer": 0}, "shuffle_buffer must be a whole number of at least 1, got 0"),
        ({"bad_records": "drop"}, "bad_records must be one of 'stop', 'skip', got 'drop'"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataSource(source="a.jsonl", **fields)

"""`rxlm tokenizer train`."""

import logging
import time
from pathlib import Path
from typing import Annotated

import tyro

from rxlm.data.text_files import read_dataset, read_texts
from rxlm.data.tokenizer import save_tokenizer, train_tokenizer
from rxlm.folders import require_folder


def train(
    sources: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    *,
    output: Path,
    vocab_size: int = 20000,
    min_frequency: int = 2,
    text_column: str = "text",
    dataset: str | None = None,
    dataset_name: str | None = None,
    split: str = "train",
) -> None:
    """Train a byte-level BPE tokenizer, whose first ids are the special tokens of an interaction.

    Reads files, folders or globs (.txt, .md; .jsonl, .json, .csv, .parquet by --text-column), or a --dataset.

    Example: rxlm tokenizer train books/ "notes/*.txt" --output my-tokenizer --vocab-size 8000

    Args:
        sources: files, folders or globs to read.
        output: folder to write the tokenizer to; `transformers` loads it, too.
        vocab_size: tokens in all; a small corpus may fill fewer.
        min_frequency: merge only pairs that are seen this often.
        text_column: column of the text in files of records and in datasets.
        dataset: read this dataset of the hub instead of files.
        dataset_name: configuration of the dataset, where it has several.
        split: split of the dataset.
    """
    if bool(sources) == bool(dataset):
        raise ValueError("Name files, folders or globs to read, or a --dataset, and not both.")
    require_folder(output)
    logging.basicConfig(format="%(message)s")
    start = time.perf_counter()
    if dataset:
        texts = read_dataset(dataset, name=dataset_name, split=split, text_column=text_column)
    else:
        texts = read_texts(sources, text_column=text_column)
    tokenizer = train_tokenizer(texts, vocab_size, min_frequency=min_frequency)
    save_tokenizer(tokenizer, output)
    print(f"Trained a tokenizer of {len(tokenizer):,} tokens in {time.perf_counter() - start:.1f} s: {output}")

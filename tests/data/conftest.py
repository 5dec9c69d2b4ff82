"""What the tests of data share: a tokenizer and a turn tokenizer, and the real data where it is."""

from pathlib import Path

import pytest

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.tokenizer import train_tokenizer
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.rxt.text import token_ids_of

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(texts_of(FactGenerator(FactsConfig()).dialogues(200)), 600)


@pytest.fixture(scope="session")
def tokens(tokenizer):
    return token_ids_of(tokenizer)


@pytest.fixture
def turn_tokenizer(tokenizer, tokens):
    return TurnTokenizer(tokenizer, tokens, max_tokens=48)


@pytest.fixture(scope="session")
def real_data():
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real data is not at {REAL_DATA}")
    return REAL_DATA

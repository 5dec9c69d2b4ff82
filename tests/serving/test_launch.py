"""Options of `rxlm serve`: what cannot be meant is refused before a model is loaded or a file is made."""

from pathlib import Path
from typing import Any

import pytest

from rxlm.rxt.checkpoint_files import CheckpointError
from rxlm.rxt.models import RxTAlpha
from rxlm.serving.launch import Launch, build


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, got 0"),
        ({"max_seq_len": 0}, "max_seq_len must be a whole number of at least 1, got 0"),
        ({"port": 65536}, "port must be a whole number from 0 to 65535, got 65536"),
        ({"max_age_days": -1.0}, "max_age_days must be from 0 to 1,000,000,000, got -1.0"),
        ({"max_age_days": float("nan")}, "max_age_days must be from 0 to 1,000,000,000, got nan"),
        ({"cache_gigabytes": float("inf")}, "cache_gigabytes must be from 0 to 1,000,000,000, got inf"),
        ({"cache_gigabytes": None}, "cache_gigabytes must be from 0 to 1,000,000,000, got None"),
        ({"store_gigabytes": "10"}, "store_gigabytes must be from 0 to 1,000,000,000, got '10'"),
        ({"cache_gigabytes": -1.0}, "cache_gigabytes must be from 0 to 1,000,000,000, got -1.0"),
        ({"cache_gigabytes": 1e300}, "cache_gigabytes must be from 0 to 1,000,000,000, got 1"),
        ({"threads": 10**8}, "threads must be a whole number from 1 to 1024"),
        ({"store_gigabytes": float("nan")}, "store_gigabytes must be from 0 to 1,000,000,000, got nan"),
        ({"name": ""}, "name must not be empty"),
        ({"api_key": "short"}, "must have 16 characters at least"),
        ({"api_key": "schlüssel-von-mir-allein"}, "printable characters of ASCII"),
        ({"api_key": "a key with an end of line\n"}, "printable characters of ASCII"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Launch("model", **options)


def test_days_and_gigabytes_become_seconds_and_bytes():
    limits = Launch("model", store_gigabytes=0.5, max_age_days=2.0).limits
    assert (limits.memory_bytes, limits.max_age) == (500_000_000, 2 * 86400)
    assert Launch("model").limits.max_age is None


def test_turns_have_room_for_a_message_and_an_answer(models: dict[str, RxTAlpha], tmp_path: Path):
    models["retained"].save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"max_seq_len must be at least .* for the form of a turn, got 5"):
        build(Launch(str(tmp_path / "model"), max_seq_len=5))


def test_what_is_no_model_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="nothing"):
        build(Launch("./nothing"))
    assert not list(tmp_path.iterdir())

"""Options of replicas; Ray itself is not among what tests install (docs/serving/operation.md says how it was tried)."""

import sys
from pathlib import Path

import pytest

from rxlm.cli import main
from rxlm.serving import ray_app


def test_options_come_from_arguments_and_then_from_the_environment() -> None:
    variables = {"RXLM_MODEL": "a", "RXLM_ROWS": "4", "RXLM_STORE": "redis://here", "RXLM_OTHER": "x", "ROWS": "9"}
    options = ray_app.launch_of({"model": "b", "max_age_days": "60"}, variables)
    assert (options.model, options.rows, options.store, options.max_age_days) == ("b", 4, "redis://here", 60.0)
    assert ray_app.launch_of({"model": "b/c"}, {}).store == "b--c.conversations.sqlite"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "a", "port": "80"}, "port is no option"),
        ({"model": "a", "rows": "many"}, "many"),
        ({"model": "a", "rows": "0"}, "rows must be a whole number of at least 1"),
        ({}, "name a model"),
    ],
)
def test_what_is_no_option_is_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ray_app.launch_of(arguments, {})


def test_replicas_share_a_store_and_know_one_key(tmp_path: Path) -> None:
    store = str(tmp_path / "store.sqlite")
    for place in ("none", ":memory:"):
        with pytest.raises(ValueError, match="replicas share a store"):
            ray_app.check(ray_app.launch_of({"model": "a", "store": place}, {}))
    options = ray_app.launch_of({"model": "a", "store": store}, {})
    with pytest.raises(ValueError, match="rxlm keys add"):
        ray_app.check(options)
    ray_app.check(ray_app.launch_of({"model": "a", "store": store}, {"RXLM_API_KEY": "a key that is long enough"}))
    assert main(["keys", "add", "alice", "--store", store]) == 0
    ray_app.check(options)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"reactive-lm\[serve,ray\]"):
        ray_app.app({"model": "a"})

"""`rxlm keys`: a store beside a model or at an address, which a server reads at every request."""

from pathlib import Path

import pytest

from rxlm.cli import main
from rxlm.serving.keys import key_digest
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.sqlite import SQLiteBackend
from rxlm.serving.store.tenants import Tenants


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store.sqlite")


def added(tenant: str, store: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["keys", "add", tenant, "--store", store]) == 0
    return capsys.readouterr().out.strip()


def tenants_of(store: str) -> Tenants:
    return Tenants(SQLiteBackend(store))


def test_a_key_is_printed_once_and_only_its_digest_is_stored(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = added("alice", store, capsys)
    owner = tenants_of(store).owner(key)
    assert owner is not None
    assert owner.name == "alice"
    assert main(["keys", "list", "--store", store]) == 0
    shown = capsys.readouterr().out
    assert key_digest(key)[:12] in shown
    assert "alice" in shown
    assert key not in shown
    assert not any(key.encode() in file.read_bytes() for file in tmp_path.iterdir())


def test_a_second_key_of_a_tenant_sees_the_same_conversations(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [added("alice", store, capsys) for _ in range(2)]
    owners = [tenants_of(store).owner(key) for key in keys]
    assert owners[0] == owners[1]


def test_the_store_of_a_folder_is_beside_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "add", "alice", "--store", str(tmp_path)]) == 0
    key = capsys.readouterr().out.strip()
    assert tenants_of(str(tmp_path / "conversations.sqlite")).owner(key) is not None


def test_a_revoked_key_is_nobodys(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    key, other = added("alice", store, capsys), added("bob", store, capsys)
    assert main(["keys", "revoke", key_digest(key)[:8], "--store", store]) == 0
    assert "alice" in capsys.readouterr().out
    assert tenants_of(store).owner(key) is None
    assert tenants_of(store).owner(other) is not None


def test_a_digest_of_no_key_or_of_several_revokes_none(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    tenants = tenants_of(store)
    tenants.named("alice")
    for end in "01":
        digest = "abcdef" + end * 58
        change = {f"key/{digest}": b"alice"}
        tenants.backend.apply(Changes(values=change, members={("keys", digest): 1.0}))
    for digest, words in [("abcd", "2 keys have"), ("1234", "no key has"), ("abc", "digest must be"), ("%", "digest")]:
        assert main(["keys", "revoke", digest, "--store", store]) == 1
        assert words in capsys.readouterr().err
    assert len(tenants.keys()) == 2


def test_limits_are_set_one_by_one_and_taken_away(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = added("alice", store, capsys)
    for words, expected in [
        (["--tokens-per-minute", "6000"], (6000, None)),
        (["--gigabytes", "0.5"], (6000, 500_000_000)),
        (["--tokens-per-minute", "0"], (None, 500_000_000)),
    ]:
        assert main(["keys", "limit", "alice", *words, "--store", store]) == 0
        owner = tenants_of(store).owner(key)
        assert owner is not None
        assert (owner.tokens_per_minute, owner.max_bytes) == expected
    capsys.readouterr()
    assert main(["keys", "list", "--store", store]) == 0
    assert "500,000,000" in capsys.readouterr().out
    assert main(["keys", "limit", "alice", "--gigabytes", "1e-12", "--store", store]) == 0
    assert "bytes at most 1." in capsys.readouterr().out  # not: no limit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "a/b", "--store", "STORE"], "1 to 64 of A-Z"),
        (["add", "", "--store", "STORE"], "1 to 64 of A-Z"),
        (["add", "a" * 65, "--store", "STORE"], "1 to 64 of A-Z"),
        (["add", "alice", "--store", "none"], "that two programs share"),
        (["list", "--store", "missing.sqlite"], "There is no store missing.sqlite"),
        (["list", "--store", "http://example.org"], "No store is opened by http:"),
        (["limit", "bob", "--gigabytes", "1", "--store", "STORE"], "tenants: alice"),
        (["limit", "alice", "--store", "STORE"], "give --tokens-per-minute or --gigabytes"),
        (["limit", "alice", "--gigabytes", "-1", "--store", "STORE"], "gigabytes must be from 0 to"),
        (["limit", "alice", "--gigabytes", "1e300", "--store", "STORE"], "gigabytes must be from 0 to"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], message: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    added("alice", store, capsys)
    assert main(["keys", *(store if word == "STORE" else word for word in words)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [each.name for each in tenants_of(store).all()] == ["alice"]

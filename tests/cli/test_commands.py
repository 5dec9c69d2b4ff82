"""`rxlm info`, `rxlm convert` and `rxlm tokenizer train` give real results."""

from pathlib import Path

import pytest
import torch

from published_fixtures import PublishedModel, published_config
from rxlm.cli import main
from rxlm.data.tokenizer import load_tokenizer
from rxlm.rxt.models import RxTAlpha
from text_models import SENTENCES, tiny_text_model, tiny_tokenizer


def test_info_counts_what_the_model_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_text_model()
    model.save_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    output = capsys.readouterr().out

    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in output
    assert "512 bytes (float32)" in output


def test_info_of_a_preset_makes_no_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "alpha"]) == 0
    assert "12 layers x 256 slots x 256" in capsys.readouterr().out


def test_a_trained_tokenizer_loads_and_knows_its_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("\n".join(SENTENCES * 3), encoding="utf-8")
    target = tmp_path / "tokenizer"
    assert main(["tokenizer", "train", str(tmp_path / "texts"), "--output", str(target), "--vocab-size", "300"]) == 0

    tokenizer = load_tokenizer(target)
    assert len(tokenizer) == 300
    assert "Trained a tokenizer of 300 tokens" in capsys.readouterr().out
    assert len(tokenizer.tokenize("My dog is called")) < len("My dog is called") / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name files, folders or globs"),
        (["nothing/here"], "nothing/here"),
        (["README.md", "--dataset", "some/thing"], "and not both"),
        (["README.md", "--vocab-size", "20"], "vocab_size=20"),
    ],
)
def test_a_tokenizer_that_cannot_be_trained_is_explained(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokenizer", "train", *arguments, "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_converted_model_computes_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write_published_model(tmp_path / "published"), tmp_path / "ours"
    assert main(["convert", str(source), str(target)]) == 0
    before, after = RxTAlpha.from_pretrained(source), RxTAlpha.from_pretrained(target)

    ids = torch.randint(0, 40, (2, 7))
    with torch.no_grad():
        memory = before.init_memory(2, seed=1)
        assert (before.decode(ids, memory) == after.decode(ids, memory)).all()
        assert (before.update_memory(memory, ids).slots == after.update_memory(memory, ids).slots).all()
    assert "to " + str(target) in capsys.readouterr().out
    assert "format_version" in (target / "config.json").read_text(encoding="utf-8")


def test_conversion_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_published_model(tmp_path / "published")
    assert main(["convert", str(source), str(source)]) == 1
    assert "is not an empty folder" in capsys.readouterr().err


def write_published_model(folder: Path) -> Path:
    """Write a small checkpoint in the published format, with a tokenizer."""
    component = {"vocab_size": len(tiny_tokenizer())}
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "query_token_id": 5, "answer_token_id": 6}
    config = published_config(decoder=component, encoder=component, tokenizer_config=tokens)
    PublishedModel(config).complete().save(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("words", [["train", "tiny"], ["quickstart"], ["tokenizer", "train", "README.md"]])
@pytest.mark.parametrize("within", [False, True])
def test_a_file_in_place_of_the_output_is_refused_before_any_work(
    words: list[str], within: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" / "deeper" if within else tmp_path / "file"
    assert main([*words, "--output", str(output)]) == 1
    assert f"{tmp_path / 'file'} is a file and not a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"

"""The recipe `llm` trains on the conversations of another recipe, written as the chat template writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rxlm.cli import main
from rxlm.data.messages import exchanges_of
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.tokenizer import SPECIAL_TOKENS
from rxlm.mrq_bench.loading import load_respondent
from rxlm.mrq_bench.teacher_forcing import perplexity, predict_with_history
from rxlm.recipes import LanguageModelRecipe, llm, open_run
from rxlm.recipes.llm import LanguageModelRun
from rxlm.recipes.phase import DialoguePhase
from rxlm.training.causal_lm import TextRows
from rxlm.training.config import OptimizerConfig

FEW = {"steps": 3, "batch_size": 4, "log_every": 1}
PHASES = (DialoguePhase(steps=2, num_turns=2), DialoguePhase(steps=1, num_turns=3))


def quick(**changes: Any) -> LanguageModelRecipe:
    recipe = llm().with_stage("language", **FEW).with_stage("dialogues", **FEW, evaluate_every=2, phases=PHASES)
    return recipe.replace(dim=16, num_heads=4, num_layers=2, ff_dim=24, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "llm"
    open_run(quick(), path).train()
    return path


def test_a_run_leaves_a_model_of_transformers_with_a_chat_template(folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Hello!"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    out = model.generate(**tokenizer(text, return_tensors="pt", add_special_tokens=False), max_new_tokens=3)

    assert text == "[BOS][Q]Hello![A]"
    assert out.shape[1] > 4


def test_what_a_person_types_is_no_special_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    typed = f"So {''.join(SPECIAL_TOKENS)} ends?"
    messages = [{"role": "user", "content": typed}, {"role": "assistant", "content": typed}]
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    special = [tokenizer.convert_ids_to_tokens(each) for each in ids if each in tokenizer.all_special_ids]

    assert special == ["[BOS]", "[Q]", "[A]", "[EOS]"]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace("\u2060", "").count(typed) == 2


def in_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": part} for part in (text[:2], text[2:])]


@pytest.mark.parametrize("content", [str, in_parts])
def test_the_chat_template_joins_messages_as_their_reader_does(content: Callable[[str], Any], folder: Path) -> None:
    texts = [
        ("system", "Be brief."), ("user", "Hello."), ("user", "Who are you?"), ("assistant", "Let me see."),
        ("tool", "Rex"), ("assistant", "Rex."), ("system", ""), ("user", "Bye."),
        ("assistant", "Bye!"), ("assistant", "Come again."),
    ]  # fmt: skip
    messages = [{"role": role, "content": content(text)} for role, text in texts]
    exchanges = exchanges_of([(message, str(number)) for number, message in enumerate(messages)], "here").found
    tokenizer = AutoTokenizer.from_pretrained(folder)

    assert tokenizer.apply_chat_template(messages, tokenize=False) == "".join(
        f"[BOS][Q]{each.query}[A]{each.answer}[EOS]" for each in exchanges
    )


def test_plain_text_begins_as_the_texts_of_training_do(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Hello.")["input_ids"] == [
        tokenizer.bos_token_id,
        *tokenizer("Hello.", add_special_tokens=False)["input_ids"],
    ]


@pytest.mark.parametrize("corpus", ["tiny", "babi"])
def test_the_chat_template_writes_what_training_reads(corpus: str, tmp_path: Path) -> None:
    story = ["1 Mary went to the kitchen.", "2 Where is Mary? \tkitchen\t1"]
    (tmp_path / "qa1_single-supporting-fact_train.txt").write_text("\n".join(story * 30))
    files = {"data": str(tmp_path), "corpus_fields": ("tasks=[1]",)} if corpus == "babi" else {}
    run = open_run(quick(corpus=corpus, **files), tmp_path / "run")
    assert isinstance(run, LanguageModelRun)
    turns = (Interaction("Where is Mary?", "In the kitchen."), Interaction("And John?", "I do not know."))
    batch = run.turn_tokenizer.dialogue_batch([Dialogue(turns), Dialogue(turns[:1])])
    rows = TextRows.of(batch)
    messages = [
        message
        for turn in turns
        for message in (
            {"role": "user", "content": turn.query},
            {"role": "assistant", "content": turn.answer},
        )
    ]
    text = str(run.tokenizer.apply_chat_template(messages, tokenize=False))
    ids = run.tokenizer(text, add_special_tokens=False)["input_ids"]

    assert rows.ids[0].tolist() == ids
    for row, dialogue in enumerate([turns, turns[:1]]):
        answered = rows.ids[row][rows.targets[row]].tolist()
        wanted = [token for turn in dialogue for token in _answer(run, turn)]
        assert answered == wanted
    assert rows.mask[1].sum() == len(run.turn_tokenizer.encode(turns[0]).ids)


def _answer(run: LanguageModelRun, turn: Interaction) -> list[int]:
    encoded = run.turn_tokenizer.encode(turn)
    return list(encoded.ids[encoded.first_target : encoded.end_of_targets])


def test_reading_with_history_predicts_as_the_benchmark_does(folder: Path) -> None:
    run = open_run(quick(), folder)
    assert isinstance(run, LanguageModelRun)
    model = run.load_model(folder).eval()
    dialogues = list(run.corpus.held_out()[:3])
    read = list(predict_with_history(model, run.turn_tokenizer, dialogues, batch_size=2))
    assert len(read) == sum(map(len, dialogues))

    respondent = load_respondent(str(folder))
    for dialogue in dialogues:
        respondent.reset(1)
        for number, turn in enumerate(dialogue.turns):
            found = next(each for each in read if each.dialogue is dialogue and each.number == number)
            wanted = respondent.losses([turn.query], [turn.answer])[0]
            # The benchmark counts the answer's own tokens, reading [EOS], too.
            assert found.tokens == wanted.tokens + 1
            assert found.loss > wanted.nats - 1e-4
            respondent.follow([turn.query], [turn.answer])
    assert perplexity(read) > 1


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    recipe = quick().without_stages("language")
    recipe = recipe.with_stage(
        "dialogues",
        steps=30,
        batch_size=16,
        log_every=1,
        evaluate_every=None,
        optimizer=OptimizerConfig(learning_rate=2e-2, warmup_steps=3),
        phases=(DialoguePhase(steps=30, num_turns=3),),
    )
    open_run(recipe, tmp_path / "run").train()
    lines = (tmp_path / "run" / "4-dialogues" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]

    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_fields_of_the_recipe_shape_the_model(tmp_path: Path) -> None:
    fields = {"attention": "xsqa", "sliding_window": 7, "num_experts": 4, "tie_head": True, "max_positions": 96}
    run = open_run(quick(**fields), tmp_path / "run")
    config = run.new_model().config

    assert (config.attention, config.sliding_window, config.num_experts) == ("xsqa", 7, 4)
    assert (config.tie_word_embeddings, config.max_position_embeddings) == (True, 96)
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (16, 2, 24)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    run = open_run(quick(), tmp_path / "run")
    run.train("language")
    again = open_run(quick(), tmp_path / "run").train()

    straight = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(weight, straight[name]) for name, weight in again.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "novels"], "corpus must be one of 'tiny', 'retention', 'babi'"),
        (["--attention", "cheap"], "attention must be one of 'mha', 'gqa'"),
        (["--dialogues.steps", "5"], "dialogues.steps is 5, and phases have 1250 steps"),
        (["--corpus", "babi"], "needs the folder of the bAbI files"),
    ],
)
def test_mistakes_are_explained_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "llm", *arguments, "--output", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

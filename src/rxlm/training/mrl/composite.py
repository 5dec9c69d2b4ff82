"""The default reward of stage 5: the terms of the composite score, each a reward by its name.

Over tokens where the benchmark has words, because ids are at hand; else the same. Shapes: B dialogues.
"""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from rxlm.data.scoring import Grade, grade, is_same_answer
from rxlm.data.words import normalise
from rxlm.metrics.composite import WEIGHTS, cosine, likeness
from rxlm.metrics.tensorbleu import tensor_sentence_bleu
from rxlm.rxt.models import RxTAlpha
from rxlm.training.mrl.embedding import Embed, Encode, Meanings, TokenEmbeddings, cached_encoding, interaction_text
from rxlm.training.mrl.rewards import Reward, RewardFunction, Rewards, TurnAnswers

Values = list[float | None]


def composite_reward(
    model: RxTAlpha,
    competitors: Mapping[str, Collection[str]] | None = None,
    embed: Embed | None = None,
) -> Rewards:
    """Return the default reward, of `rxlm.metrics.composite.WEIGHTS`.

    Args:
        model: with its tokenizer, as the stage begins with it; see `TokenEmbeddings`.
        competitors: the values that questions of a kind are about, by kind; see `ExactMatch`.
        embed: embeds texts; `TokenEmbeddings(model)` if not given.
    """
    encode = cached_encoding(model.needed_tokenizer())
    functions: dict[str, RewardFunction] = {
        "exact": ExactMatch(competitors or {}),
        "bleu_reference": bleu_reference,
        "bleu_previous": BleuPrevious(encode),
        "length": length,
        **cosines(embed or TokenEmbeddings(model, encode)),
    }
    return Rewards([Reward(name, functions[name], weight) for name, weight in WEIGHTS.items()])


class ExactMatch:
    """1 for the right answer to a question, 0 for any other; does not apply to turns that ask nothing.

    Args:
        competitors: the values that questions of a kind are about, by kind. An answer is right if it names the expected
            ones and no other (`rxlm.data.scoring.grade`); to a question of a kind that is not here, if it has the words
            of the reference.
    """

    def __init__(self, competitors: Mapping[str, Collection[str]]) -> None:
        self.competitors = competitors

    def __call__(self, turn: TurnAnswers) -> Values:
        """Return the reward of each answer."""
        rewards: Values = []
        for question, answer, reference in zip(turn.questions, turn.answers, turn.references, strict=True):
            if question is None:
                rewards.append(None)
            elif question.kind in self.competitors:
                rewards.append(float(grade(answer, question, self.competitors[question.kind]) is Grade.RIGHT))
            else:
                rewards.append(float(is_same_answer(answer, reference)))
        return rewards


def bleu_reference(turn: TurnAnswers) -> Tensor:
    """Return the BLEU of each answer's tokens against those of its reference."""
    return _bleu(turn.answer_ids, turn.reference_ids)


class BleuPrevious:
    """BLEU of each answer's tokens against the turn before, query and answer; does not apply to the first turn."""

    def __init__(self, encode: Encode) -> None:
        self.encode = encode

    def __call__(self, turn: TurnAnswers) -> Values:
        """Return the reward of each answer."""
        before = [self.encode(interaction_text(*row[-1])) if row else [] for row in turn.history]
        return _after_the_first(turn, _bleu(turn.answer_ids, before))


def length(turn: TurnAnswers) -> Tensor:
    """Return the shorter of answer and reference over the longer, in words."""
    said, wanted = ([len(normalise(text).split()) for text in texts] for texts in (turn.answers, turn.references))
    return likeness(said, wanted)


def cosines(embed: Embed) -> dict[str, RewardFunction]:
    """Return the rewards by embeddings, which share one call of `embed` a turn."""
    meanings = Meanings(embed)

    def cosine_reference(turn: TurnAnswers) -> Tensor:
        return cosine(meanings(turn).answers, meanings(turn).references)

    def cosine_previous(turn: TurnAnswers) -> Values:
        return _after_the_first(turn, cosine(meanings(turn).answers, meanings(turn).previous))

    def cosine_history(turn: TurnAnswers) -> Values:
        return _after_the_first(turn, cosine(meanings(turn).answers, meanings(turn).history))

    return {
        "cosine_reference": cosine_reference,
        "cosine_previous": cosine_previous,
        "cosine_history": cosine_history,
    }


def _bleu(candidates: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> Tensor:
    # sacreBLEU's variant, as in the benchmark: a right answer of one token scores 1.
    return tensor_sentence_bleu(candidates, [[ids] for ids in references], variant="sacrebleu")


def _after_the_first(turn: TurnAnswers, values: Tensor) -> Values:
    return [value if row else None for row, value in zip(turn.history, values.tolist(), strict=True)]

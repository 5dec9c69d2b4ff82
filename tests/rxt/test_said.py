"""What was said in an interaction: query and answer without the tokens that give it its form."""

import torch

from helpers import BETA_TOKENS
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.said import said_mask

FORM = RxTAlphaTokenizerConfig(
    pad_token_id=0, bos_token_id=1, eos_token_id=9, query_token_id=None, answer_token_id=None,
    query_prefix=(1, 13, 11), answer_prefix=(9, 12, 13),
)  # fmt: skip


def test_form_is_what_stands_before_query_and_answer_and_ends_it() -> None:
    interaction = torch.tensor([[1, 13, 11, 20, 13, 21, 9, 12, 13, 30, 13, 9]])
    expected = [False] * 3 + [True, True, True] + [False] * 3 + [True, True, False]
    assert said_mask(interaction, None, FORM).tolist() == [expected]
    shifted = torch.cat((torch.zeros(1, 4, dtype=torch.long), interaction), dim=1)
    mask = torch.arange(shifted.shape[1])[None] >= 4
    assert said_mask(shifted, mask, FORM).tolist() == [[False] * 4 + expected]
    together = said_mask(torch.cat((shifted, torch.cat((interaction, interaction[:, :4] * 0), dim=1))), None, FORM)
    assert together.tolist() == [[False] * 4 + expected, expected + [False] * 4]


def test_words_of_a_prefix_are_said_where_it_does_not_stand() -> None:
    form = FORM.replace(query_prefix=(1, 13), answer_prefix=(13,))
    assert said_mask(torch.tensor([[1, 13, 20, 13, 30, 13, 31, 9]]), None, form).tolist() == [
        [False, False, True, False, True, True, True, False]
    ]


def test_special_tokens_of_models_that_think_are_form() -> None:
    thinking = torch.tensor([[2, 5, 20, 7, 21, 6, 22, 3]])
    assert said_mask(thinking, None, BETA_TOKENS).tolist() == [[False, False, True, False, True, False, True, False]]


def test_an_interaction_shorter_than_its_form_has_said_what_is_no_part_of_it() -> None:
    assert said_mask(torch.tensor([[1, 13]]), None, FORM).tolist() == [[False, True]]
    assert not said_mask(torch.tensor([[13, 13]]), torch.zeros(1, 2, dtype=torch.bool), FORM).any()

"""What was said in an interaction: query and answer without the tokens that give it its form."""

import torch

from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.said import said_mask

FORM = RxTAlphaTokenizerConfig(
    pad_token_id=0, bos_token_id=1, eos_token_id=9, query_token_id=2, answer_token_id=3,
    query_prefix=(1, 2, 11), answer_prefix=(9, 12, 3),
)  # fmt: skip


def test_prefixes_and_the_end_of_an_answer_are_form_wherever_they_stand() -> None:
    interaction = torch.tensor([[1, 2, 11, 20, 2, 21, 9, 12, 3, 30, 31, 9]])
    expected = [False] * 3 + [True, True, True] + [False] * 3 + [True, True, False]
    assert said_mask(interaction, None, FORM).tolist() == [expected]
    shifted = torch.cat((torch.zeros(1, 4, dtype=torch.long), interaction), dim=1)
    mask = torch.arange(shifted.shape[1])[None] >= 4
    assert said_mask(shifted, mask, FORM).tolist() == [[False] * 4 + expected]


def test_an_interaction_shorter_than_its_form_has_said_what_is_no_part_of_it() -> None:
    assert said_mask(torch.tensor([[1, 2]]), None, FORM).tolist() == [[True, True]]
    assert not said_mask(torch.tensor([[1, 2]]), torch.zeros(1, 2, dtype=torch.bool), FORM).any()

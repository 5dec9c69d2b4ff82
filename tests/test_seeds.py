"""Seeds: other numbers give other ones, and what runs were made with stays what it was."""

from rxlm.seeds import derived_seed, order_seed

PAIRS = [(first, second) for first in range(60) for second in range(60)]


def test_other_numbers_give_other_seeds():
    assert len({order_seed(*pair) for pair in PAIRS}) == len({derived_seed(*pair) for pair in PAIRS}) == len(PAIRS)


def test_runs_keep_their_order_of_data_and_their_answers():
    assert order_seed(7, 3) == 8195370219114625851
    assert derived_seed(7, 3) == 2821688278891770545

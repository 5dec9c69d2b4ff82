"""The states of some tokens are those that the states of all have, whatever is left out to compute them."""

import pytest
import torch

from helpers import ARCHITECTURES, assert_close, shared_model, some_ids, some_memory
from rxlm.nn.moe import Routing


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_the_states_of_some_tokens_are_those_of_all(name):
    model, ids = shared_model(name), some_ids(3, 9)
    wanted = torch.arange(9) % torch.tensor([2, 3, 4])[:, None] == 1
    memory, routings = some_memory(model, range(3)), (Routing(), Routing())
    every = model.decoder.hidden_states(ids, memory, routing=routings[0])

    assert_close(model.decoder.hidden_states(ids, memory, routing=routings[1], wanted=wanted), every[wanted])
    balance = [routing.loss() for routing in routings]
    assert balance[0] is None or torch.equal(*balance)

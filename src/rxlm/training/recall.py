"""Recalling: telling an earlier turn from the memory, as a second task of stage 4.

A question teaches the memory one word in many turns. Asked to tell any earlier turn of the conversation word by word,
each turn teaches all that was said, and what belongs to what ("mary went to" ... "the kitchen"). On bAbI that saved
steps and no time (see dev/LOG.md). In-context autoencoders are trained like this (Ge et al., 2023), for memories that
are written once.

Shapes: N turns, B dialogues, T tokens, K recalled turns.
"""

import torch
from torch import Tensor

from rxlm.training.turns import Recalls, Turns

CUE = 2  # [BOS] and [Q] are given


def draw_recalls(turns: Turns, share: float, generator: torch.Generator) -> Recalls:
    """Choose for about `share` of the turns, at random, an earlier turn of their conversation."""
    number = torch.arange(turns.num_turns)
    real = turns.mask.any(dim=2).cpu()
    conversation = torch.zeros_like(real, dtype=torch.long)
    if turns.fresh is not None:
        conversation = turns.fresh.cpu().long().cumsum(0)
    earlier = number[:, None] > number  # reader, source
    same = conversation[:, None] == conversation  # reader, source, dialogue
    possible = earlier[:, :, None] & same & real[:, None] & real
    drawn = torch.rand(possible.shape, generator=generator) * possible
    wanted = torch.rand(real.shape, generator=generator) < share
    reader, dialogue = (possible.any(dim=1) & wanted).nonzero(as_tuple=True)
    source = drawn.argmax(dim=1)[reader, dialogue]
    size = turns.batch_size
    device = turns.ids.device
    return Recalls((reader * size + dialogue).to(device), (source * size + dialogue).to(device))


def recall_targets(mask: Tensor) -> Tensor:
    """Return True at the tokens of turns (K, T) that are to be told: all real ones behind the cue."""
    targets = mask.clone()
    targets[:, :CUE] = False
    return targets

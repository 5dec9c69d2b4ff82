"""Keeping: where nothing calls for the memory, a pretrained language model goes on as it would without one.

The loss is the Kullback-Leibler divergence of the model's next-token distributions from the language model's own
(Hinton et al., 2015). The language model is the decoder itself with its memory reading left out, and where some of its
layers learn, the decoder as it was before.

Shapes: N turns, B dialogues, K kept turns, T tokens, D model dimension, V vocabulary.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.memory import MemoryReading
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoder import RxTDecoder
from rxlm.training.by_length import by_length
from rxlm.training.turns import Kept, Turns

LOGITS_AT_ONCE = 2**25


def memory_readers(decoder: RxTDecoder) -> list[nn.Module]:
    """Return the parts of a decoder that read the memory."""
    return [getattr(layer, part) for layer in decoder.memory_layers for part in layer.parameter_groups]


def last_layers(decoder: RxTDecoder, share: float) -> list[nn.Module]:
    """Return a share of the decoder's layers, the last ones, and its final norm, where any are to learn."""
    layers = list(decoder.layers)
    count = math.ceil(share * len(layers))
    return [*layers[len(layers) - count :], decoder.final_norm] if count else []


def with_some_answers(turns: Turns, share: float, generator: torch.Generator) -> Turns:
    """Leave in the loss the answers to questions, a random share of the other references, and nothing else."""
    targets = turns.answer_mask
    if turns.is_reference is not None:
        targets = targets & turns.is_reference[:, :, None]
    if share < 1 and turns.asks is not None:
        drawn = torch.rand(turns.asks.shape, generator=generator).to(targets.device) < share
        targets = targets & (turns.asks | drawn)[:, :, None]
    return replace(turns, answer_mask=targets)


def with_some_words(turns: Turns, share: float, generator: torch.Generator) -> Turns:
    """Leave in the loss the tokens that name what was asked for, and a random share of the others."""
    if share == 1:
        return turns
    if turns.value_mask is None:
        raise ValueError("wording_share below 1 needs turns that say what they ask for: these come from no dialogues.")
    drawn = torch.rand(turns.answer_mask.shape, generator=generator).to(turns.answer_mask.device) < share
    return replace(turns, answer_mask=turns.answer_mask & (turns.value_mask | drawn))


def with_kept_turns(turns: Turns, share: float, generator: torch.Generator, *, first_turns: bool = False) -> Turns:
    """Choose about `share` of the turns whose answers are no references; they keep to the language model.

    A conversation's first turn is left out, but with `first_turns`: an empty memory changes nothing while the language
    model's own weights stay.
    """
    if turns.is_reference is None:
        raise ValueError("It is not known which answers of these turns are references: they come from no dialogues.")
    counts = ~turns.is_reference & turns.mask.any(dim=2)
    if not first_turns:
        begins = torch.zeros_like(counts)
        begins[0] = True
        counts &= ~(begins if turns.fresh is None else turns.fresh)
    drawn = torch.rand(counts.shape, generator=generator).to(counts.device) < share
    chosen = (drawn & counts).flatten().nonzero()[:, 0]
    ids, mask = (rows.flatten(0, 1)[chosen] for rows in (turns.ids, turns.mask))
    return replace(turns, kept=Kept(chosen, ids, mask))


def keeping_loss(model: RxTModel, language_model: RxTDecoder, kept: Kept, reading: MemoryReading) -> Tensor:
    """Return the summed divergence, in nats, over all tokens of the kept turns but their first."""
    loss = torch.zeros((), device=kept.ids.device)
    for rows, width in by_length(kept.mask, model.decoder.config.dim) if len(kept.turns) else ():
        ids, wanted = kept.ids[rows, :width], kept.mask[rows, 1:width]
        with torch.no_grad():
            own = language_model.hidden_states(ids, None)[:, :-1][wanted]
        read = model.decoder.hidden_states(ids, reading.select(kept.turns[rows]))[:, :-1][wanted]
        step = max(1, LOGITS_AT_ONCE // model.decoder.config.vocab_size)
        for first in range(0, len(own), step):
            with torch.no_grad():
                aim = language_model.head(own[first : first + step]).float().log_softmax(-1)
            found = model.decoder.head(read[first : first + step]).float().log_softmax(-1)
            loss = loss + F.kl_div(found, aim, reduction="sum", log_target=True)
    return loss

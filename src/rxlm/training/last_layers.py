"""Which layers learn where only the last ones do."""

import math
from typing import cast

from torch import nn

from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.decoder import RxTDecoder


def last_layers(decoder: RxTDecoder, share: float) -> list[TransformerLayer]:
    """Return a share of a decoder's layers, rounded up to whole ones: the last ones, none for a share of 0."""
    layers = cast(list[TransformerLayer], list(decoder.layers))
    return layers[len(layers) - math.ceil(share * len(layers)) :]


def weights_of_last_layers(decoder: RxTDecoder, share: float) -> list[nn.Parameter]:
    """Return the weights of `last_layers` and of the norm after them; none for a share of 0."""
    last = last_layers(decoder, share)
    parts = [*last, decoder.final_norm] if last else []
    return [parameter for part in parts for parameter in part.parameters()]

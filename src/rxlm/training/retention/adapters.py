"""Low-rank adapters (LoRA: Hu et al., 2021) in place of learning weights, by PEFT, until they are merged into them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rxlm.config import require
from rxlm.extras import require_packages
from rxlm.folders import saving
from rxlm.nn.feed_forward import FeedForward
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.hub import save_weights
from rxlm.upcycling.adapters import PREFIX, WEIGHTS


def add_adapters(layers: Iterable[TransformerLayer], rank: int, alpha: int, seed: int = 0) -> list[nn.Parameter]:
    """Put an adapter beside each projection of self-attention and feed-forward, and return the adapters' weights.

    They change nothing at first. Every process draws the same ones. Raises `ConfigError` where layers have experts, and
    ImportError where PEFT is missing.
    """
    require_packages(f"lora_rank={rank}", "lora", "peft", otherwise=", or set it to 0")
    from peft import LoraConfig, inject_adapter_in_model

    parts = nn.ModuleList()
    for layer in layers:
        require(
            isinstance(layer.feed_forward, FeedForward),
            f"RetentionConfig.lora_rank must be 0 for layers of experts, got {rank}: only dense layers have adapters.",
        )
        parts.extend((layer.attention, layer.feed_forward))
    before = set(parts.parameters())
    names = [name for name, part in parts.named_modules() if isinstance(part, nn.Linear)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=names), parts)
    return [parameter for parameter in parts.parameters() if parameter not in before]


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Leave what adapters add out for as long as the block runs; whether they learn is to be said again afterwards."""
    adapted = _adapted(model)
    learn = [parameter for layer in adapted for parameter in layer.parameters() if parameter.requires_grad]
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in adapted:
            layer.enable_adapters(True)
        for parameter in learn:
            parameter.requires_grad_(True)


def _adapted(model: nn.Module) -> list[Any]:
    """Return the layers that have an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [part for part in model.modules() if isinstance(part, BaseTunerLayer)]


def save_adapters(model: nn.Module, folder: Path, rank: int, alpha: int) -> None:
    """Write adapters and retention gates to a folder in PEFT's format; `take_adapters` and PEFT read it."""
    from peft import LoraConfig

    adapted = set(_adapted(model))
    names = [name for name, part in model.named_modules() if part in adapted]
    weights = {
        PREFIX + name.replace(".default.", "."): value
        for name, value in model.state_dict().items()
        if ".lora_" in name or ".retention_gate." in name
    }
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, modules_to_save=["retention_gate"])
    config.inference_mode = True
    with saving(folder) as draft:
        config.save_pretrained(str(draft))
        save_weights(weights, draft / WEIGHTS)


def merge_adapters(model: nn.Module) -> None:
    """Add what adapters have learnt to the weights beside which they stand, and take them away."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, BaseTunerLayer):
                part.merge(safe_merge=True)
                setattr(parent, name, part.get_base_layer())

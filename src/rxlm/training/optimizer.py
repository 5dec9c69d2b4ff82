"""AdamW with a learning rate for each group of parameters."""

from collections.abc import Iterable

import torch
from torch import nn

from rxlm.training.config import OptimizerConfig

MEMORY_READERS = ("memory_reader", "memory_norm", "slot_norm")
"""What of a decoder's layer reads the memory."""
GROUPS = ("embeddings", "body", "memory", "gates", "critic")


def parameter_group(name: str) -> str:
    """Return the group of a parameter, by its name in a train module."""
    if name.startswith("critic."):
        return "critic"
    if any(part in name for part in ("embedding", ".head.", "mlm_head", "embed_tokens", "lm_head")):
        return "embeddings"
    if "memory_writer." in name and name.startswith("model.memory_writer."):
        return "gates" if "_gate" in name else "memory"
    return "body"


def is_decoders_own(name: str) -> bool:
    """Whether a parameter of a train module belongs to the decoder, and not to what reads the memory there."""
    return name.startswith("model.decoder.") and not any(f".{part}." in name for part in MEMORY_READERS)


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return the optimizer of a train module; weight decay applies to matrices of body and memory."""
    scales = {
        "embeddings": config.embedding_scale,
        "body": 1.0,
        "memory": config.memory_scale,
        "gates": config.gate_scale,
        "critic": config.critic_scale,
    }
    groups: dict[tuple[str, bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        group = parameter_group(name)
        decays = parameter.dim() >= 2 and group in ("body", "memory") and not name.endswith(("initial", "identity"))
        scale = config.decoder_scale if group == "body" and is_decoders_own(name) else scales[group]
        groups.setdefault((group, decays, scale), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "name": group,
                "base_rate": config.learning_rate * scale,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (group, decays, scale), parameters in groups.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,  # one pass over the parameters, on a CPU too
    )


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set each group's learning rate to a share of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * share


def gradient_norms(module: nn.Module) -> dict[str, float]:
    """Return the norm of the gradients of each group, and of all."""
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    found = torch.stack(torch._foreach_norm(list(gradients.values()))).double().square().tolist() if gradients else []
    squares = dict.fromkeys(GROUPS, 0.0)
    for name, square in zip(gradients, found, strict=True):
        squares[parameter_group(name)] += square
    norms = {f"gradient_norm/{group}": value**0.5 for group, value in squares.items() if value}
    return {"gradient_norm": sum(squares.values()) ** 0.5, **norms}


def scale_gradients(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Multiply all gradients by a number."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_mul_(gradients, factor)

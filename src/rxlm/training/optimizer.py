"""AdamW with a learning rate for each group of parameters.

Modules say which of their parts are in a group, by attribute: `parameter_groups = {"embedding": "embeddings"}`; and
which of their parameters weight decay leaves alone: `without_decay = ("initial",)`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rxlm.training.config import OptimizerConfig
from rxlm.training.sharding import divided_like, local, sum_over_parts

GROUPS = ("body", "embeddings", "memory", "gates", "critic")
"""Of the groups that modules around a parameter name, the last one in this order is its own; of none, the first."""


def parameter_groups(module: nn.Module) -> dict[nn.Parameter, str]:
    """Return the group of each parameter of a train module, in the order of the parameters."""
    places = dict.fromkeys(module.parameters(), 0)
    for part in module.modules():
        declared: Mapping[str, str] = getattr(part, "parameter_groups", {})
        for name, group in declared.items():
            for parameter in _parameters_of(getattr(part, name, None)):
                places[parameter] = max(places[parameter], GROUPS.index(group))
    return {parameter: GROUPS[place] for parameter, place in places.items()}


def _parameters_of(part: nn.Module | nn.Parameter | None) -> Iterable[nn.Parameter]:
    if isinstance(part, nn.Module):
        return part.parameters()
    return () if part is None else (part,)


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return the optimizer of a train module; weight decay applies to matrices of body and memory."""
    scales = {
        "embeddings": config.embedding_scale,
        "memory": config.memory_scale,
        "gates": config.gate_scale,
        "critic": config.critic_scale,
    }
    undecayed = {getattr(part, name, None) for part in module.modules() for name in getattr(part, "without_decay", ())}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter, group in parameter_groups(module).items():
        decays = parameter.dim() >= 2 and group in ("body", "memory") and parameter not in undecayed
        groups.setdefault((group, decays), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": parameters,
                "name": group,
                "base_rate": config.learning_rate * scales.get(group, 1.0),
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (group, decays), parameters in groups.items()
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,  # one pass over the parameters, on a CPU too
    )
    optimizer.register_step_post_hook(_tell_of_change)
    return optimizer


def _tell_of_change(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Count the weights' versions up: a fused step does not, and readings of a memory are known as outdated by them."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set each group's learning rate to a share of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * share


def loss_and_norms(loss: Tensor, groups: Mapping[nn.Parameter, str]) -> tuple[float, dict[str, float]]:
    """Return a loss as a number, and the norm of the gradients of each group of parameters and of all."""
    gradients = {parameter: parameter.grad for parameter in groups if parameter.grad is not None}
    read = [loss.double()[None]]
    if gradients:
        norms = torch._foreach_norm([local(gradient) for gradient in gradients.values()])
        squares = torch.stack(norms).to(loss.device).double().square()
        sum_over_parts(squares, of=next(iter(gradients.values())))
        read.append(squares)
    number, *found = torch.cat(read).tolist()
    totals = dict.fromkeys(GROUPS, 0.0)
    for parameter, square in zip(gradients, found, strict=True):
        totals[groups[parameter]] += square
    by_group = {f"gradient_norm/{group}": value**0.5 for group, value in totals.items() if value}
    return number, {"gradient_norm": sum(totals.values()) ** 0.5, **by_group}


def scale_gradients(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Multiply all gradients by a number."""
    gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    torch._foreach_mul_(gradients, factor)


def optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what the optimizer knows of each parameter that has learnt, by the parameter's name."""
    return {name: optimizer.state[each] for name, each in module.named_parameters() if each in optimizer.state}


def load_optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take what `optimizer_state` returned, or what an optimizer of an earlier version did: by the parameters' order.

    Learning rates and all other settings are those of the optimizer's own configuration.
    """
    now = optimizer.state_dict()
    if "param_groups" in state:
        sizes, own = ([len(group["params"]) for group in groups["param_groups"]] for groups in (state, now))
        if sizes != own:
            raise ValueError("The checkpoint's optimizer is that of other parameters: their groups have other sizes.")
        by_number = state["state"]
    else:
        ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        numbers = {parameter: number for number, parameter in enumerate(ordered)}
        shared = module.named_parameters(remove_duplicate=False)  # each under all of its names
        named = {name: numbers[parameter] for name, parameter in shared}
        unknown = sorted(state.keys() - named.keys())
        if unknown:
            raise ValueError(f"The checkpoint's optimizer knows parameters that the model has not: {unknown}.")
        by_number = {
            named[name]: {key: divided_like(value, ordered[named[name]]) for key, value in values.items()}
            for name, values in state.items()
        }
    optimizer.load_state_dict({"state": by_number, "param_groups": now["param_groups"]})

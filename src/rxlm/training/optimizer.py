"""AdamW, and Muon for matrices, with a learning rate for each group of parameters.

Modules say which of their parts are in a group, by attribute: `parameter_groups = {"embedding": "embeddings"}`; and
which of their parameters weight decay leaves alone: `without_decay = ("initial",)`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rxlm.training.config import OptimizerConfig
from rxlm.training.muon import Muon
from rxlm.training.sharding import divided_like, local, sum_over_parts

GROUPS = ("body", "embeddings", "memory", "gates", "critic")
"""Of the groups that modules around a parameter name, the last one in this order is its own; of none, the first."""
_OTHER_ALGORITHM = (
    "The checkpoint's weights were learnt by another algorithm: OptimizerConfig.algorithm must be what it was, "
    "'adamw' or 'muon'."
)


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


def build_optimizers(module: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a train module, each with parameters of its own; the first one is AdamW.

    Weight decay applies to matrices of body and memory; these are Muon's where there is one.
    """
    scales = {
        "embeddings": config.embedding_scale,
        "memory": config.memory_scale,
        "gates": config.gate_scale,
        "critic": config.critic_scale,
    }
    undecayed = {getattr(part, name, None) for part in module.modules() for name in getattr(part, "without_decay", ())}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter, group in parameter_groups(module).items():
        decays = _is_matrix(parameter) and group in ("body", "memory") and parameter not in undecayed
        groups.setdefault((group, decays), []).append(parameter)
    matrices, others = [], []
    for (group, decays), parameters in groups.items():
        rate = config.learning_rate * scales.get(group, 1.0)
        settings = {
            "params": parameters,
            "name": group,
            "lr": rate,
            "base_rate": rate,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        (matrices if decays and config.algorithm == "muon" else others).append(settings)
    adamw = torch.optim.AdamW(
        others,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,  # one pass over the parameters, on a CPU too
    )
    adamw.register_step_post_hook(_tell_of_change)
    return [adamw, *([Muon(matrices, momentum=config.momentum)] if matrices else [])]


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix or a stack of them; one column is a number for each of something."""
    return parameter.dim() >= 2 and parameter.shape[-1] > 1


def _tell_of_change(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Count the weights' versions up: a fused step does not, and readings of a memory are known as outdated by them."""
    for group in optimizer.param_groups:
        torch.autograd.graph.increment_version(group["params"])


def set_rate(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Set each group's learning rate to a share of its highest."""
    for optimizer in optimizers:
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


def optimizer_state(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Any]:
    """Return what the optimizers know of each parameter that has learnt, by the parameter's name."""
    known = {parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()}
    return {name: known[each] for name, each in module.named_parameters() if each in known}


def load_optimizer_state(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], state: Mapping[str, Any]
) -> None:
    """Take what `optimizer_state` returned, or what an optimizer of an earlier version did: by the parameters' order.

    Learning rates and all other settings are those of the optimizers' own configuration.
    """
    if "param_groups" in state:
        adamw, *others = optimizers
        if others:
            raise ValueError(_OTHER_ALGORITHM)
        now = adamw.state_dict()["param_groups"]
        sizes, own = ([len(group["params"]) for group in groups] for groups in (state["param_groups"], now))
        if sizes != own:
            raise ValueError("The checkpoint's optimizer is that of other parameters: their groups have other sizes.")
        adamw.load_state_dict({"state": state["state"], "param_groups": now})
        return
    named = dict(module.named_parameters(remove_duplicate=False))  # each under all of its names
    unknown = sorted(state.keys() - named.keys())
    if unknown:
        raise ValueError(f"The checkpoint's optimizer knows parameters that the model has not: {unknown}.")
    known = {named[name]: values for name, values in state.items()}
    for optimizer in optimizers:
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if any(("momentum" in known[each]) != isinstance(optimizer, Muon) for each in own if each in known):
            raise ValueError(_OTHER_ALGORITHM)
        by_number = {
            number: {key: divided_like(value, parameter) for key, value in known[parameter].items()}
            for number, parameter in enumerate(own)
            if parameter in known
        }
        optimizer.load_state_dict({"state": by_number, "param_groups": optimizer.state_dict()["param_groups"]})

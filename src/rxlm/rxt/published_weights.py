"""Names and shapes of tensors in the checkpoint format of the RxT models on the hub (see `published`)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rxlm.rxt.checkpoint_files import CheckpointError
from rxlm.rxt.published import Values

IGNORED_TENSORS = re.compile(r"\.rope\.|\.stm\.")


@dataclass(frozen=True)
class Source:
    """Where one of our tensors stands in a published file: one tensor, or a stack of them, perhaps transposed."""

    names: tuple[str, ...]
    stacked: bool = False
    transposed: bool = False

    def read(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return our tensor."""
        parts = [tensors[name].t() if self.transposed else tensors[name] for name in self.names]
        return torch.stack(parts) if self.stacked else parts[0]

    def write(self, tensor: Tensor) -> dict[str, Tensor]:
        """Return the published tensors that `read` would make `tensor` of."""
        parts = tensor.unbind() if self.stacked else (tensor,)
        return {
            name: (part.t() if self.transposed else part).contiguous()
            for name, part in zip(self.names, parts, strict=True)
        }


def translate_weights(
    expected: Iterable[str], tensors: Mapping[str, Tensor], model_values: Values
) -> dict[str, Tensor]:
    """Return our state dict from the tensors of a published file.

    Args:
        expected: the names of our state dict.
        tensors: the published file's tensors.
        model_values: the translated configuration, as `model_config` gives it.

    Raises `CheckpointError` where a tensor is missing, or one is left that has no place in the model.
    """
    translated, missing = {}, []
    used = {name for name in tensors if IGNORED_TENSORS.search(name)}
    used |= {"decoder.model.embedding.weight", "encoder.model.embedding.weight"}
    for name in expected:
        candidates = list(sources(name, model_values))
        source = next((each for each in candidates if all(part in tensors for part in each.names)), None)
        if source is None:
            missing.append(candidates[0].names[0])
            continue
        translated[name] = source.read(tensors)
        used.update(source.names)
    if missing:
        raise CheckpointError(f"The checkpoint is damaged or incomplete: {_listed(missing)} missing.")
    left = [name for name in tensors if name not in used and not name.endswith(".ema_rms")]
    if left:
        raise CheckpointError(f"The checkpoint has tensors that this model has no place for: {_listed(left)}.")
    return translated


def sources(name: str, model_values: Values) -> Iterator[Source]:
    """Yield the places where our tensor `name` may stand in a published file, the newest form first."""
    part, rest = name.split(".", 1)
    if rest == "embedding.weight":
        yield from (Source((f"{where}.model.embedding.weight",)) for where in ("encoder", "decoder"))
    elif part == "memory_writer":
        yield from _memory_sources(rest)
    elif rest.startswith("layers."):
        _, index, inner = rest.split(".", 2)
        config = model_values[f"{part}_config"]
        prefix = f"{part}.model.{_layer_name(int(index), config)}."
        yield from _layer_sources(prefix, inner, config)
    else:
        yield Source((f"{part}.model.{rest.replace('final_norm', 'head_norm')}",))


LAYER_MODULES = {
    "attention_norm": "norm1", "memory_norm": "norm2", "feed_forward_norm": "norm3", "slot_norm": "stm_norm",
    "attention": "attention", "memory_reader": "memory_cross_attention",
}  # fmt: skip
MEMORY_MODULES = {
    "write_attention": ("attention_layers",),
    "write_norm": ("memory_norm_layers",),
    "encoded_norm": ("memory_input_norm_layers",),
    "write_gate": ("residual_gate_layers",),
    "mix_gate": ("interlayer_gate_layers",),
    "consolidation_attention": ("mean_attention_layers", "self_attention_layers"),
    "consolidation_norm": ("mean_memory_norm_layers", "self_memory_norm_layers"),
    "consolidation_gate": ("mean_residual_gate_layers", "self_residual_gate_layers"),
}


def _memory_sources(name: str) -> Iterator[Source]:
    prefix = "memory_attention.model"
    if name.startswith("mean_norm."):
        yield Source((f"{prefix}.mean_stm_norm.{_norm_tensor(name.split('.', 1)[1])}",))
        return
    _, index, module, tensor = name.split(".", 3)
    if module.endswith("gate"):
        tensor = {"weight": "gate"}.get(tensor, tensor.replace("linear.", "gate.").replace("status.", "slot_status."))
    elif module.endswith("norm"):
        tensor = _norm_tensor(tensor)
    yield from (Source((f"{prefix}.{published}.{index}.{tensor}",)) for published in MEMORY_MODULES[module])


def _norm_tensor(tensor: str) -> str:
    return tensor.replace("average_rms", "ema_rms")


def _layer_name(index: int, config: Values) -> str:
    before = len(config["stateless_layers"])
    if index < before:
        return f"stateless_layers.{index}"
    index -= before
    if index < config["num_layers"]:
        return f"layers.{index}"
    return f"final_stateless_layers.{index - config['num_layers']}"


def _layer_sources(prefix: str, name: str, config: Values) -> Iterator[Source]:
    module, tensor = name.split(".", 1)
    if module != "feed_forward":
        yield Source((f"{prefix}{LAYER_MODULES[module]}.{tensor}",))
        return
    first = "fc1.linear" if config["ff_gated"] else "fc1"
    ff = f"{prefix}ff."
    stack, _, weight = tensor.rpartition(".")
    if stack in ("experts", "shared_experts"):
        yield from _expert_sources(ff, stack == "shared_experts", weight, first, config)
        return
    renamed = {
        "router.weight": "router.gate.weight",
        "bias": "global_bias",
        "shared_gate.weight": "shared_expert_gate.weight",
        "shared_bias": "shared_experts_bias",
    }
    yield Source((ff + renamed.get(tensor, tensor.replace("in_proj", first).replace("out_proj", "fc2")),))


def _expert_sources(ff: str, shared: bool, weight: str, first: str, config: Values) -> Iterator[Source]:
    """A stack of experts: one tensor; or, in older files, one tensor an expert; or a single shared expert."""
    stacked = {"w_in": "w1", "w_out": "w2", "b_in": "b1", "b_out": "b2"}[weight]
    kind, layer = weight.split("_")
    single = f"{first if layer == 'in' else 'fc2'}.{'weight' if kind == 'w' else 'bias'}"
    if shared and config["num_shared_experts"] == 1:
        yield Source((f"{ff}shared_expert.{single}",), stacked=True, transposed=kind == "w")
    else:
        yield Source((f"{ff}{'shared_' if shared else ''}{stacked}",))
    stack, count = ("shared_experts", "num_shared_experts") if shared else ("experts", "num_experts")
    names = tuple(f"{ff}{stack}.{expert}.{single}" for expert in range(config[count]))
    yield Source(names, stacked=True, transposed=kind == "w")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(sorted(names)[:5]) + more

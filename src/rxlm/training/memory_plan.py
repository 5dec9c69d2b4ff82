"""How much memory training will take on each device, reckoned from shapes before anything is loaded.

Counted are weights, gradients, the optimizer's two moments, what sharding puts together at once, what layers keep for
the backward pass, logits, and the memories of a batch's conversations. Not counted are the program itself, fragments of
the allocator, and buffers of the communication library.

Shapes: B rows, T tokens of a row, D model dimension.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from rxlm.nn.key_values import KeyValues, KeyValueSource
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import MixtureOfExperts
from rxlm.nn.rope import Rotation
from rxlm.training.distributed import Parallel
from rxlm.training.module import StageModule, TrainModule
from rxlm.training.retention.language_model import LOGITS_AT_ONCE

LAST_STEP = 2**31
"""By then everything learns that a stage teaches."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device.

    Fields:
        weights: of the model and of frozen copies. gradients, optimizer: of what learns.
        gathered: weights and gradients that sharding puts together at once; of "ddp", the message of gradients.
        activations: what layers keep for the backward pass, and logits.
        memories: of a microbatch's conversations.
    """

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    memories: int

    @property
    def total(self) -> int:
        """The most that is there at once: gradients come while activations go."""
        lasting = self.weights + self.optimizer + self.gathered + self.memories
        return lasting + max(self.gradients, self.activations)


def memory_plan(
    module: StageModule,
    rows: int,
    tokens: int,
    *,
    devices: int = 1,
    parallel: Parallel = "ddp",
    devices_of_node: int | None = None,
    bytes_of_products: int = 4,
    activation_checkpointing: bool = False,
) -> MemoryPlan:
    """Return what a step of training takes on each device at most.

    Args:
        module: the stage; its weights may be on the device "meta".
        rows, tokens: B and T of a microbatch, on one device.
        devices: how many share the work. devices_of_node: of them, those of one machine, among which "hsdp" divides.
        parallel: how they share it.
        bytes_of_products: of a number in matrix products: 2 in bfloat16.
        activation_checkpointing: as in `TrainingConfig`.
    """
    module.start_step(LAST_STEP)
    parts = {"ddp": 1, "fsdp": devices, "hsdp": devices_of_node or devices}[parallel]
    weights = list(module.parameters())
    learnt = [each for each in weights if each.requires_grad]
    frozen = _numbers(_of_frozen(module, weights, divided=parts > 1))
    if parallel == "ddp":
        gathered = 4 * _numbers(learnt) if devices > 1 else 0
    else:
        gathered = bytes_of_products * _gathered(module, weights)
    return MemoryPlan(
        weights=4 * (_numbers(weights) + frozen) // parts,
        gradients=4 * _numbers(learnt) // parts,
        optimizer=8 * _numbers(learnt) // parts,
        gathered=gathered,
        activations=_activations(module, rows, tokens, bytes_of_products, activation_checkpointing),
        memories=_memories(module, rows),
    )


def _numbers(parameters: Iterable[nn.Parameter]) -> int:
    return sum(each.numel() for each in parameters)


def _of_frozen(module: StageModule, weights: list[nn.Parameter], *, divided: bool) -> list[nn.Parameter]:
    """Return weights of frozen decoders that are no weights of the module; divided ones are not shared with it."""
    own = set() if divided else set(weights)
    return [each for decoder in module.frozen_decoders() for each in decoder.parameters() if each not in own]


def _gathered(module: StageModule, weights: list[nn.Parameter]) -> int:
    """Return numbers of weights that are put together at once, and of gradients that are summed at once.

    Both stand there twice for a while: as they are sent, and in their places. The next layer is put together already.
    """

    def with_gradients(parameters: Iterable[nn.Parameter]) -> int:
        return sum(each.numel() * (3 if each.requires_grad else 1) for each in parameters)

    layers = [each for each in module.modules() if isinstance(each, TransformerLayer)] if module.by_layer else []
    in_layers = {each for layer in layers for each in layer.parameters()}
    rest = [each for each in weights if each not in in_layers]
    of_frozen = sum(
        _numbers(part.parameters())
        for decoder in module.frozen_decoders()
        for part in (decoder.embedding, decoder.head)
    )
    largest = max((with_gradients(layer.parameters()) for layer in layers), default=0)
    as_sent = max((_numbers(layer.parameters()) for layer in layers), default=0)
    return with_gradients(rest) + largest + 2 * as_sent + of_frozen


def _activations(module: StageModule, rows: int, tokens: int, size: int, checkpointing: bool) -> int:
    """Return bytes that layers keep for the backward pass, and those of the logits."""
    layers = [each for each in module.modules() if isinstance(each, TransformerLayer)]
    if not layers:
        return 0
    kept = [kept_by_layer(layer, rows, tokens, size) for layer in layers]
    inputs = 4 * rows * tokens * sum(_dim(layer) for layer in layers)
    vocabulary = max((each.num_embeddings for each in module.modules() if isinstance(each, nn.Embedding)), default=0)
    logits = 3 * 4 * min(rows * tokens * vocabulary, LOGITS_AT_ONCE)
    return logits + (inputs + 2 * max(kept) if checkpointing else sum(kept))  # with the gradients of one layer's


def kept_by_layer(layer: TransformerLayer, rows: int, tokens: int, size: int = 4) -> int:
    """Return bytes that a layer keeps of (B, T, D) for the backward pass, as on a CPU.

    Nothing is computed but by a mixture of experts, for one row, since what each expert reads depends on the tokens.
    On a GPU it is less: there attention does not keep its weights, (B, H, T, T).
    """
    if isinstance(layer.feed_forward, MixtureOfExperts):
        return rows * _kept(layer, 1, tokens, size, torch.rand)
    with FakeTensorMode():
        return _kept(layer, rows, tokens, size, torch.empty)


def _kept(layer: TransformerLayer, rows: int, tokens: int, size: int, new: Callable[..., Tensor]) -> int:
    """Return bytes that a layer keeps of tensors that `new` makes."""
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autocast("cpu", torch.bfloat16, enabled=size == 2):
        weights = {name: new(each.shape, requires_grad=each.requires_grad) for name, each in layer.named_parameters()}
        buffers = {name: new(each.shape) for name, each in layer.named_buffers()}
        x = new(rows, tokens, _dim(layer), requires_grad=True)
        angles = new(1, 1, tokens, layer.attention.head_dim)
        options: dict[str, Any] = {"rotation": Rotation(angles, angles)}
        if layer.retention_gate is not None:
            options["cache"] = _LearntBias()
        elif layer.memory_reader is not None:
            options["memory"] = KeyValueSource(new(x.shape))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            functional_call(layer, weights | buffers, (x,), {"causal": layer.retention_gate is None, **options})
        for each in weights.values():
            kept.pop(each.untyped_storage()._cdata, None)
        return sum(each.untyped_storage().nbytes() for each in kept.values())


class _LearntBias:
    """Takes the place of a cache whose tokens are visible by what the gate says, as in retention training."""

    def note(self, layer: int, scores: Tensor) -> None:
        """Take the scores of tokens, (B, H, T)."""
        self.added = scores[:, :, None] - scores[..., None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Return keys and values (B, H, T, d), and what is added to the scores, (B, H, T, T)."""
        return KeyValues(keys, values, self.added.to(keys.dtype))


def _dim(layer: TransformerLayer) -> int:
    return layer.attention.q_proj.in_features


def _memories(module: StageModule, rows: int) -> int:
    """Return bytes of the memories of B conversations."""
    if not isinstance(module, TrainModule):
        return 0
    return rows * module.model.memory_writer.config.build().num_bytes(4)

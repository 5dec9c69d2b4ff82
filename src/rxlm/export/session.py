"""ONNX Runtime over PyTorch's memory: tensors are read and written where they are."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rxlm.extras import require_packages

# ONNX Runtime keeps a database of what it runs, for its makers, and threads that send it: a forked process waits for
# them at its end. It reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPES = {torch.float32: "float32", torch.int64: "int64"}
SEEN, HIDDEN = torch.tensor([0.0, torch.finfo(torch.float32).min])
"""What is added to scores."""


def check_packages(*names: str) -> None:
    """Raise ImportError where a package of the extra `onnx` is missing, and say how to get it."""
    require_packages("The engine onnx", "onnx", *names, otherwise=", or take the engine torch")


class Session:
    """A graph that is ready to run.

    Args:
        path: of the graph. It runs with as many threads as PyTorch has when it is opened.

    Raises ValueError where the file is no graph, or its weights are not beside it.
    """

    def __init__(self, path: Path) -> None:
        check_packages("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many classes, which have none in common
            raise ValueError(
                f"{path} cannot be opened: export the model again. ONNX Runtime says: {str(error).splitlines()[0]}"
            ) from error
        self.path, given, made = path, self.session.get_inputs(), self.session.get_outputs()
        self.inputs, self.outputs = [each.name for each in given], [each.name for each in made]
        self._widths = {each.name: each.shape[-1] for each in (*given, *made)}

    def check(self, kinds: Collection[str], widths: Mapping[str, int]) -> None:
        """Raise ValueError where the graph is another model's.

        Args:
            kinds: names of inputs and outputs; one that layers have is `KIND.LAYER` in a graph.
            widths: the last axis of each that is of these kinds.
        """
        found = {name: width for name, width in self._widths.items() if name.partition(".")[0] in kinds}
        for name in (*widths, *found):
            there, needed = found.get(name, "nothing"), widths.get(name, "nothing")
            if there != needed:
                raise ValueError(
                    f"{self.path} is the graph of another model: {name} is {there} numbers wide in it, and {needed} in "
                    "this one. Export the model again."
                )

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> "Call":
        """Return the call that reads and writes these tensors, contiguous, as often as it is made."""
        return Call(self.session, inputs, outputs)


class Call:
    """A graph with the tensors that it reads and writes."""

    def __init__(self, session: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        self._session, self._binding = session, session.io_binding()
        self._held: Sequence[Tensor] = (*inputs.values(), *outputs.values())
        for bind, tensors in ((self._binding.bind_input, inputs), (self._binding.bind_output, outputs)):
            for name, tensor in tensors.items():
                assert tensor.is_contiguous(), name
                if tensor.dtype not in TYPES:
                    kept = ", ".join(TYPES.values())
                    raise ValueError(f"An engine of ONNX computes with {kept}, and {name} is {tensor.dtype}.")
                bind(name, "cpu", 0, TYPES[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())

    def __call__(self) -> None:
        """Compute the outputs of what the inputs hold now."""
        self._session.run_with_iobinding(self._binding)


def numbered(name: str, tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return tensors of layers by the names that a graph has for them."""
    return {f"{name}.{layer}": each for layer, each in enumerate(tensors)}


def added(mask: Tensor) -> Tensor:
    """Return what is added to scores for a mask that is True where keys are seen."""
    return torch.where(mask, SEEN, HIDDEN)

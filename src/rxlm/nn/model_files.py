"""What the files of a language model hold, read before anything is built: a small file must not cost much.

A configuration of one line can ask for a million layers. It is compared with the tensors that are there.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors import SafetensorError, safe_open

from rxlm.file_errors import read_json_object

MOST_LAYERS = 4096
LARGEST = 1 << 31
"""Of all other whole numbers of a configuration."""


class UnsupportedModelError(ValueError):
    """A model whose layers are none of those that can be taken over; the message says what is supported."""


def check_sizes(config: Mapping[str, Any], name: str) -> None:
    """Raise `UnsupportedModelError` where a configuration of `transformers` names sizes that no model has."""
    for field, value in _numbers(config):
        most = MOST_LAYERS if re.search(r"num_(hidden_)?layers$|n_layers?$", field) else LARGEST
        if abs(value) > most:
            raise UnsupportedModelError(f"The configuration of {name} has {field}={value}; at most {most:,} is read.")


def check_folder(folder: Path) -> None:
    """Compare the configuration in a folder with the tensors beside it, where they are in safetensors files."""
    path = folder / "config.json"
    if not path.is_file():
        return  # transformers says what is missing
    config = read_json_object(path, UnsupportedModelError)
    check_sizes(config, str(folder))
    layers, shapes = _tensors(sorted(folder.glob("*.safetensors")))
    asked = config.get("num_hidden_layers")
    if layers and isinstance(asked, int) and asked != len(layers):
        raise UnsupportedModelError(
            f"{path} has num_hidden_layers={asked}, and the tensors beside it are of {len(layers)} layers."
        )
    due = [config.get(name) for name in ("vocab_size", "hidden_size")]
    found = shapes.get("model.embed_tokens.weight")
    if found is not None and None not in due and found != due:
        raise UnsupportedModelError(
            f"{path} has vocab_size={due[0]} and hidden_size={due[1]}, and the embedding beside it is {found}."
        )


def check_hub(model_id: str) -> None:
    """Check the sizes in the configuration of a model on the hub; errors of the network are left to the loader."""
    try:
        path = Path(hf_hub_download(model_id, "config.json"))
    except (OSError, ValueError):
        return
    check_sizes(read_json_object(path, UnsupportedModelError), model_id)


def check_gguf(reader: Any, name: str) -> None:
    """Compare the number of layers that a GGUF file names with the tensors in it, given the package's reader."""
    layers = {match[1] for tensor in reader.tensors if (match := re.match(r"blk\.(\d+)\.", tensor.name))}
    for field, value in reader.fields.items():
        numbers = value.parts[value.data[0]].tolist() if len(value.data) == 1 else []
        number = numbers[0] if len(numbers) == 1 else None
        if field.endswith(".block_count") and number != len(layers):
            raise UnsupportedModelError(f"{name} has {field}={number}, and tensors of {len(layers)} layers.")
        if isinstance(number, int) and abs(number) > LARGEST and not field.startswith("general."):
            raise UnsupportedModelError(f"{name} has {field}={number}; at most {LARGEST:,} is read.")


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int):
            yield f"{prefix}{name}", value


def _tensors(files: list[Path]) -> tuple[set[str], dict[str, list[int]]]:
    """Return the numbers of the layers that files have tensors of, and the shape of the embedding."""
    layers: set[str] = set()
    shapes: dict[str, list[int]] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                layers |= {match[1] for name in names if (match := re.match(r"model\.layers\.(\d+)\.", name))}
                shapes |= {name: file.get_slice(name).get_shape() for name in names if "embed_tokens" in name}
        except SafetensorError as error:
            raise UnsupportedModelError(f"{path} is damaged: {error}.") from error
    return layers, shapes

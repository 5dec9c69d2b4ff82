"""Saving to a folder, loading from a folder or the Hugging Face hub: one way for models and their components."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from rxlm.config import Config, ConfigError
from rxlm.folders import reading, saving
from rxlm.nn.weights import listed, misfits, not_finite
from rxlm.rxt import earlier_versions
from rxlm.rxt.checkpoint_files import CONFIG_FILE, WEIGHTS_FILE, CheckpointError, CheckpointFiles

FORMAT_VERSION = 2


class HubModule(nn.Module, PyTorchModelHubMixin, library_name="rxlm"):
    """A module that `save_pretrained`, `from_pretrained` and `push_to_hub` know how to handle.

    `config.json` holds the format's version, the class's name and the constructor's arguments; `model.safetensors`
    the weights, each stored once.
    """

    tied_weights: ClassVar[Mapping[str, str]] = {}
    """Names of weights that are another weight under a second name: {second name: stored name}."""

    def config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        raise NotImplementedError

    @classmethod
    def from_config_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the module, with fresh weights, from what `config_dict` returned."""
        raise NotImplementedError

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_options: Any,
    ) -> str | None:
        """Write configuration and weights to a folder, made where it is missing; optionally push it to the hub.

        All files of an earlier save are replaced together, or none is. `repo_id`, the folder's name when None, and
        `push_options` go to `push_to_hub`; `config` and `model_card_kwargs` are there because huggingface_hub passes
        them, the configuration being the module's own.
        """
        if config is not None:
            raise ValueError("The configuration that is saved is the module's own: config cannot be given.")
        if push_options and not push_to_hub:
            raise ValueError(f"{', '.join(push_options)} only means something with push_to_hub=True.")
        folder = Path(save_directory)
        with saving(folder) as draft:
            self._save_pretrained(draft)
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **push_options)

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = {name: tensor for name, tensor in self.state_dict().items() if name not in self.stored_ties()}
        write_checkpoint(self, weights, save_directory)

    @classmethod
    def from_pretrained(  # pyrefly: ignore[bad-override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        mapped: bool = False,
    ) -> Self:
        """Load a module from a folder, or from the hub by its id, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, or a hub id.
            revision, cache_dir, force_download, local_files_only, token: as in `hf_hub_download`.
            device: where the weights go.
            dtype: their floating-point type; None keeps the file's.
            mapped: see `CheckpointFiles`: for weights that are copied anyway, for example to be sharded. What they
                compute may differ in the last bit.

        Raises `CheckpointError` (a ValueError) where nothing is there, or what is there is damaged.
        """
        files = CheckpointFiles(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            mapped=mapped,
        )
        with reading(files.name):
            module = cls._from_files(files)
            files.check()
        return module.to(device=device, dtype=dtype).eval()

    @classmethod
    def _from_files(cls, files: CheckpointFiles) -> Self:
        header, values = split_header(files.config(), files.name)
        if header["architecture"] != cls.__name__:
            raise CheckpointError(f"{files.name} holds a {header['architecture']}, not a {cls.__name__}.")
        values = earlier_versions.without_removed(values, files.name)
        return cls._from_state(values, earlier_versions.translate_weights(files.weights()), files.name)

    @classmethod
    def _from_state(cls, values: Mapping[str, Any], weights: dict[str, Tensor], source: str) -> Self:
        """Build the module around `weights`, which it keeps without a copy."""
        check_layers(values, weights, source)
        with reading_config(source), torch.device("meta"):
            module = cls.from_config_dict(values)
        ties = module.stored_ties()
        weights = weights | {name: weights[stored] for name, stored in ties.items() if stored in weights}
        check_weights(module.state_dict(), weights, source)
        module.load_state_dict(weights, assign=True)
        module.tie_weights()
        return module

    def stored_ties(self) -> Mapping[str, str]:
        """Second names of weights that this module shares, and the names that they are stored under."""
        return self.tied_weights

    def tie_weights(self) -> None:
        """Make shared weights one parameter again, after loading."""

    @classmethod
    def _load_config(cls, values: Any, kind: type[Config]) -> Any:
        return values if isinstance(values, kind) else kind.from_dict(values)


def split_header(values: Mapping[str, Any], source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split our `config.json` into its header (format_version, architecture) and the constructor's arguments."""
    if "format_version" not in values or "architecture" not in values:
        raise CheckpointError(f"The {CONFIG_FILE} of {source} is not of this library: it has no format_version.")
    version = values["format_version"]
    if version not in range(1, FORMAT_VERSION + 1):
        raise CheckpointError(
            f"{source} is in format {version!r}; this version of rxlm reads formats up to {FORMAT_VERSION}."
        )
    header = {name: values[name] for name in ("format_version", "architecture")}
    return header, {name: value for name, value in values.items() if name not in header}


@contextmanager
def reading_config(source: str) -> Iterator[None]:
    """Name the checkpoint in what goes wrong with its configuration: a `ConfigError`, or a `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except ConfigError as error:
        raise ConfigError(f"The {CONFIG_FILE} of {source} cannot be used: {error}") from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        # A part of it is missing, or is of another kind than whatever reads it takes for granted.
        raise CheckpointError(
            f"The {CONFIG_FILE} of {source} is damaged or incomplete: {type(error).__name__}: {error}."
        ) from error


def check_layers(values: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> None:
    """Raise `CheckpointError` where a configuration names more layers than there are tensors, before they are built."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            check_layers(value, weights, source)
        elif name == "num_layers" and isinstance(value, int) and value > len(weights):
            raise CheckpointError(f"The {CONFIG_FILE} of {source} has {name}={value}, and {len(weights)} tensors.")


def check_weights(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    """Raise `CheckpointError` unless `weights` have exactly the names and shapes that are expected, and are numbers."""
    problems = misfits(expected, weights)
    if problems:
        raise CheckpointError(f"The weights of {source} do not fit its configuration: {listed(problems)}.")
    damaged = not_finite(weights)
    if damaged:
        raise CheckpointError(f"The weights of {source} are damaged: {listed(damaged)}.")


def write_checkpoint(module: HubModule, weights: Mapping[str, Tensor], folder: Path, **header: Any) -> None:
    """Write the configuration of a module, with what else its header says, and weights of it."""
    header = {"format_version": FORMAT_VERSION, "architecture": type(module).__name__, **header}
    text = json.dumps({**header, **module.config_dict()}, indent=2) + "\n"
    save_weights(weights, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file."""
    save_file({name: tensor.detach().contiguous() for name, tensor in weights.items()}, path, {"format": "pt"})

"""The sentences that are scored: ids in a padded tensor, checked, with the span of each sentence in its row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

MAX_ID = 2**31 - 1
MAX_TOKENS = 2**21 - 2
"""Most tokens of a candidate and one reference together: the packed keys of `counting_cpu` have room for so many."""

Sentence = Sequence[int] | Tensor
"""The ids of one sentence, all of them: a sentence in a list has no padding."""


@dataclass(frozen=True)
class Sentences:
    """Sentences, each at the left of its row.

    Args:
        ids: (..., T), int64; what follows the end of a sentence is never read.
        lengths: (...), tokens of each sentence.
        present: (...), False where a row stands for no sentence at all.
    """

    ids: Tensor
    lengths: Tensor
    present: Tensor

    @property
    def has_bad_length(self) -> Tensor:
        """Tell which sentences claim more tokens than their row has, or fewer than none, (...)."""
        return (self.lengths < 0) | (self.lengths > self.ids.shape[-1])

    @property
    def has_bad_id(self) -> Tensor:
        """Tell which sentences hold an id below 0 or above `MAX_ID`, (...)."""
        is_token = torch.arange(self.ids.shape[-1], device=self.ids.device) < self.lengths[..., None]
        return (((self.ids < 0) | (self.ids > MAX_ID)) & is_token).any(-1)

    @property
    def is_bad(self) -> Tensor:
        """Tell which sentences have either, (...)."""
        return self.has_bad_length | self.has_bad_id


def read_candidates(
    candidates: Tensor | Sequence[Sentence], lengths: Tensor | Sequence[int] | None, pad: int | None
) -> Sentences:
    """Read (B, Tc) ids, or a list of B sentences."""
    if isinstance(candidates, Tensor):
        return _read_tensor("candidate", candidates, "(B, Tc)", lengths, pad)
    _refuse_lengths("candidate", lengths)
    device = next((row.device for row in candidates if isinstance(row, Tensor)), torch.device("cpu"))
    rows = [_row(f"candidates[{index}]", row, device) for index, row in enumerate(candidates)]
    return _rectangle(rows, (len(rows),), device)


def read_references(
    references: Tensor | Sequence[Sequence[Sentence] | Tensor],
    lengths: Tensor | Sequence[Sequence[int]] | None,
    pad: int | None,
    device: torch.device,
) -> Sentences:
    """Read (B, R, Tr) ids, or a list that holds a list of sentences, or padded (R, T) ids, for each candidate."""
    if isinstance(references, Tensor):
        if references.device != device:
            raise ValueError(f"references are on {references.device} and candidates on {device}; move one of them")
        return _read_tensor("reference", references, "(B, R, Tr)", lengths, pad)
    _refuse_lengths("reference", lengths)
    groups = [_group(f"references[{index}]", group, device) for index, group in enumerate(references)]
    widest = max((len(group) for group in groups), default=1) or 1
    absent = torch.empty(0, dtype=torch.int64, device=device)
    rows = [row for group in groups for row in group + [absent] * (widest - len(group))]
    sentences = _rectangle(rows, (len(groups), widest), device)
    counts = torch.tensor([len(group) for group in groups], dtype=torch.int64, device=device)
    present = torch.arange(widest, device=device) < counts[:, None]
    if pad is None or not any(isinstance(group, Tensor) for group in references):
        return Sentences(sentences.ids, sentences.lengths, present)
    # The rows of the lists are whole; those of an (R, T) tensor are cut where their padding begins.
    is_padded = torch.tensor([isinstance(group, Tensor) for group in references], device=device)[:, None]
    is_token = torch.arange(sentences.ids.shape[-1], device=device) < sentences.lengths[..., None]
    cut = _cut_padding(sentences.ids.where(is_token, pad), pad)
    return Sentences(
        cut.ids.where(is_padded[..., None], sentences.ids),
        cut.lengths.where(is_padded, sentences.lengths),
        present & (cut.present | ~is_padded),
    )


def check_on_host(name: str, sentences: Sentences) -> None:
    """Raise ValueError where sentences on the CPU have lengths or ids out of range."""
    ids = sentences.ids
    _refuse(name, "a length", sentences.has_bad_length, f"from 0 to the row's {ids.shape[-1]} tokens")
    if ids.numel() and (ids.numpy().min() < 0 or ids.numpy().max() > MAX_ID):
        _refuse(name, "an id", sentences.has_bad_id, f"from 0 to {MAX_ID}, or be cut off as padding")


def _refuse(name: str, what: str, bad: Tensor, allowed: str) -> None:
    if bad.any():
        where = "".join(f"[{index}]" for index in bad.nonzero()[0].tolist())
        raise ValueError(f"{name}{where} has {what} out of range; it must be {allowed}")


def _read_tensor(name: str, ids: Tensor, shape: str, lengths: Tensor | Sequence | None, pad: int | None) -> Sentences:
    if ids.ndim != shape.count(",") + 1:
        hint = "; add a dimension for a single reference: references[:, None]" if name == "reference" else ""
        raise ValueError(f"{name}s have shape {tuple(ids.shape)}; it must be {shape}{hint}")
    ids = _whole_numbers(f"{name}s", ids)
    if lengths is None:
        return _whole_rows(ids) if pad is None else _cut_padding(ids, pad)
    given = _read_lengths(f"{name}_lengths", lengths, ids)
    # A length of -1 says that there is no such reference.
    absent = (given == -1) & (name == "reference")
    return Sentences(ids, given.masked_fill(absent, 0), ~absent)


def _read_lengths(name: str, lengths: Tensor | Sequence, ids: Tensor) -> Tensor:
    given = lengths if isinstance(lengths, Tensor) else torch.tensor(lengths, device=ids.device)
    if given.shape != ids.shape[:-1]:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; it must be {tuple(ids.shape[:-1])}")
    if given.device != ids.device:
        raise ValueError(f"{name} is on {given.device} and the ids on {ids.device}; move one of them")
    return _whole_numbers(name, given)


def _refuse_lengths(name: str, lengths: object) -> None:
    if lengths is not None:
        raise ValueError(f"{name}_lengths belong to a tensor; the {name}s are a list, which has lengths of its own")


def _group(name: str, group: Sequence[Sentence] | Tensor, device: torch.device) -> list[Tensor]:
    """Return the references of one candidate, a tensor each."""
    if (isinstance(group, Tensor) and group.ndim != 2) or any(isinstance(row, int) for row in group):
        raise ValueError(f"{name} must be a list of sentences or an (R, T) tensor; a single reference is [ids]")
    return [_row(f"{name}[{index}]", row, device) for index, row in enumerate(group)]


def _row(name: str, row: Sentence, device: torch.device) -> Tensor:
    if not isinstance(row, Tensor):
        # Through numpy, which reads a list five times as fast as PyTorch.
        array = np.array(row) if len(row) else np.empty(0, dtype=np.int64)
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} has dtype {array.dtype}; it must be one of whole numbers")
        row = torch.from_numpy(array.astype(np.int64, copy=False)).to(device)
    if row.device != device:
        raise ValueError(f"{name} is on {row.device} and the first of the candidates on {device}; move one of them")
    if row.ndim != 1:
        raise ValueError(f"{name} has shape {tuple(row.shape)}; it must be (T,)")
    return _whole_numbers(name, row)


def _rectangle(rows: list[Tensor], shape: tuple[int, ...], device: torch.device) -> Sentences:
    """Put whole sentences into the rows of a padded tensor (*shape, T)."""
    if not rows:
        return _whole_rows(torch.empty(*shape, 0, dtype=torch.int64, device=device))
    ids = pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=device).view(shape)
    return Sentences(ids.view(*shape, -1), lengths, torch.ones_like(lengths, dtype=torch.bool))


def _whole_rows(ids: Tensor) -> Sentences:
    lengths = torch.full(ids.shape[:-1], ids.shape[-1], device=ids.device)
    return Sentences(ids, lengths, torch.ones_like(lengths, dtype=torch.bool))


def _cut_padding(ids: Tensor, pad: int) -> Sentences:
    """Cut the pad id off at both ends of each row; a row of nothing else stands for no sentence."""
    width = ids.shape[-1]
    if width == 0:
        rows = _whole_rows(ids)
        return Sentences(ids, rows.lengths, torch.zeros_like(rows.present))
    first, end = _token_span(ids, pad)
    if ids.device.type != "cpu" or first.any():
        columns = torch.arange(width, device=ids.device)
        ids = ids.gather(-1, (columns + first[..., None]).clamp(max=width - 1))
    return Sentences(ids, end - first, end > 0)


def _token_span(ids: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Return the column of the first token of each row, and the column after the last; 0 and 0 where there is none."""
    width = ids.shape[-1]
    if ids.device.type == "cpu":
        # numpy stops at the first True, and stays on this core: PyTorch would wait for its other threads, which takes
        # long where cores are busy.
        is_token = ids.numpy() != pad
        first, after = (torch.from_numpy(side.argmax(-1)) for side in (is_token, is_token[..., ::-1]))
        return first, (width - after) * torch.from_numpy(is_token.any(-1))
    is_token = ids != pad
    columns = torch.arange(width, device=ids.device)
    end = torch.where(is_token, columns + 1, 0).amax(-1)
    return torch.where(is_token, columns, width).amin(-1).minimum(end), end


def _whole_numbers(name: str, ids: Tensor) -> Tensor:
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {ids.dtype}; it must be one of whole numbers, such as torch.int64")
    return ids.to(torch.int64)

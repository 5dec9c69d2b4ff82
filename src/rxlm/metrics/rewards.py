"""BLEU as a reward for reinforcement learning."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from rxlm.metrics.tensorbleu import bleu_signature, tensor_sentence_bleu
from rxlm.metrics.tensorbleu.variant import BleuOptions

Ids = Sequence[int]


class BleuReward:
    """Sentence BLEU of each completion, as a reward function for TRL's trainers (`reward_funcs=BleuReward()`).

    Args:
        column: of the dataset that holds the references of each row: the ids of one reference, a list of such, or,
            with `tokenize`, a text or a list of texts. None, or an empty list, gives the row no reward.
        tokenize: returns the ids of a text, as `lambda text: tokenizer(text).input_ids` does; only for references that
            are texts, and completions that come without ids.
        eos_token_id: completions are scored up to this id, without it.
        options: the choices of `tensor_sentence_bleu`, such as `max_n` or `smoothing_method`.

    Raises:
        ValueError: for choices that are unknown or do not fit each other.
    """

    def __init__(
        self,
        column: str = "references",
        *,
        tokenize: Callable[[str], Ids] | None = None,
        eos_token_id: int | None = None,
        **options: Unpack[BleuOptions],
    ) -> None:
        self.signature = bleu_signature(**options)
        self.column, self.tokenize, self.eos_token_id, self.options = column, tokenize, eos_token_id, options
        self.__name__ = "bleu"  # what TRL logs the reward as

    def __call__(
        self,
        prompts: Sequence[Any] | None = None,
        completions: Sequence[Any] | None = None,
        completion_ids: Sequence[Ids] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return a reward from 0 to 1 for each completion, None where it has no reference.

        Args:
            prompts: not used.
            completions: ids or, with `tokenize`, texts or chat messages; used only without `completion_ids`.
            completion_ids: ids of each completion, without padding.
            columns: the other columns of the dataset, the references among them.

        Raises:
            ValueError: for a missing column, for texts without `tokenize`, and for ids that BLEU refuses.
        """
        given = completions if completion_ids is None else completion_ids
        if given is None:
            raise ValueError("completion_ids and completions are both missing; one of them must be given")
        if self.column not in columns:
            raise ValueError(f"column {self.column!r} is missing; the dataset's other columns are {sorted(columns)}")
        references = [self._references(row) for row in columns[self.column]]
        if len(references) != len(given):
            raise ValueError(f"column {self.column!r} has {len(references)} rows; there are {len(given)} completions")
        scored = [row for row, group in enumerate(references) if group]
        scores = tensor_sentence_bleu(
            [self._completion(given[row]) for row in scored], [references[row] for row in scored], **self.options
        )
        rewards: list[float | None] = [None] * len(given)
        for row, score in zip(scored, scores.tolist(), strict=True):
            rewards[row] = score
        return rewards

    def _references(self, row: Any) -> list[Ids]:
        """Return the ids of each reference of a row."""
        if row is None or len(row) == 0:
            return []
        row = _plain(row)
        is_single = isinstance(row, str) or isinstance(row[0], int)
        return [self._ids(one) for one in ([row] if is_single else row)]

    def _completion(self, completion: Any) -> Ids:
        if len(completion) and isinstance(completion[0], Mapping):
            completion = "".join(_text_of(message.get("content")) for message in completion)
        ids = self._ids(_plain(completion))
        if self.eos_token_id is not None and self.eos_token_id in ids:
            ids = ids[: list(ids).index(self.eos_token_id)]
        return ids

    def _ids(self, text: str | Ids) -> Ids:
        if not isinstance(text, str):
            return text
        if self.tokenize is None:
            raise ValueError(f"BleuReward got the text {text[:40]!r} and has no tokenize to turn it into ids")
        return self.tokenize(text)


def _plain(values: Any) -> Any:
    """Return arrays and tensors, alone or in a list, as lists of plain numbers; the rest as it is."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_plain(value) for value in values] if isinstance(values, (list, tuple)) else values


def _text_of(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """Return what a chat message says: nothing where its content is null, as beside a tool's call; else its texts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or "" for part in content)

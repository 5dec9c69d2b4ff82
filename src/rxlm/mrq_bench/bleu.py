"""BLEU of texts over words, so that models with different tokenizers can be compared; by TensorBLEU."""

from collections.abc import Sequence

from rxlm.data.words import normalise
from rxlm.metrics.tensorbleu import bleu_signature, tensor_corpus_bleu, tensor_sentence_bleu

# sacreBLEU's variant: the mean stops at the longest n-grams that a candidate has, so that a right answer of one word
# scores 1, where NLTK's would look for 4-grams in it.
SIGNATURE = bleu_signature(variant="sacrebleu", level="sentence").replace("tok:ids", "tok:words of rxlm.data.words")

Ids = list[list[int]]


def sentence_bleu(candidates: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return the BLEU of each candidate against its reference."""
    if not candidates:
        return []
    said, wanted = _ids(candidates, references)
    return tensor_sentence_bleu(said, [[row] for row in wanted], variant="sacrebleu").tolist()


def corpus_bleu(candidates: Sequence[str], references: Sequence[str]) -> float:
    """Return the BLEU of all candidates together."""
    said, wanted = _ids(candidates, references)
    return float(tensor_corpus_bleu(said, [[row] for row in wanted], variant="sacrebleu"))


def _ids(candidates: Sequence[str], references: Sequence[str]) -> tuple[Ids, Ids]:
    """Return every word of the texts as a number."""
    numbers: dict[str, int] = {}

    def encode(text: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers) + 1) for word in normalise(text).split()]

    return [encode(text) for text in candidates], [encode(text) for text in references]

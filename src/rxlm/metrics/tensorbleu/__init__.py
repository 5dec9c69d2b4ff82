"""BLEU on batches of token ids, equal to NLTK's or sacreBLEU's, on the device where the ids are.

The folder imports only PyTorch, numpy and (by relative imports) itself, so it can be copied into any program.
"""

from .functions import tensor_corpus_bleu, tensor_sentence_bleu
from .variant import bleu_signature

__all__ = ["bleu_signature", "tensor_corpus_bleu", "tensor_sentence_bleu"]

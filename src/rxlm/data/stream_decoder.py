"""Decode tokens one by one, to the text that decoding all of them at once gives."""

import codecs
import json
import operator
import re
from typing import SupportsIndex

from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import special_tokens_by_id


class StreamDecoder:
    """Decodes tokens one by one, to the text that decoding all of them at once gives.

    All pieces that `push` returns, and the last one from `flush`, joined equal `tokenizer.decode(ids,
    skip_special_tokens=..., clean_up_tokenization_spaces=False)`. If the bytes of a character are in several tokens, it
    is held back until it is complete: a piece never ends within a character. The work per token is constant on average.
    """

    # Not tokenizers.decoders.DecodeStream: 0.23 has no flush, and decodes a run of invalid bytes again and
    # again (20,000 of them take half a minute).

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, skip_special_tokens: bool = False) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._skipped = frozenset(special_tokens_by_id(tokenizer) if skip_special_tokens else ())
        self._pieces = _piece_decoder(self._backend.decoder)

    def push(self, token_id: SupportsIndex) -> str:
        """Return the text that the next token completes: often one word, sometimes nothing or more."""
        index = operator.index(token_id)  # of a NumPy or torch integer, too
        token = self._backend.id_to_token(index)
        # An id beyond the vocabulary has no token; a whole decode leaves it out as well.
        if token is None or index in self._skipped:
            return ""
        return self._pieces.push(token)

    def flush(self) -> str:
        """End the text: return what is still held back; the next token begins a new text."""
        return self._pieces.flush()


class _BytePieces:
    """For byte-level vocabularies: each character of a token is one byte of UTF-8."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: str) -> str:
        try:
            data = bytes(_BYTE_OF_CHARACTER[character] for character in token)
        except KeyError:  # an added token, written out
            data = token.encode()
        return self._utf8.decode(data)

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _NeighbourPieces:
    """Other vocabularies (SentencePiece, WordPiece): a token's text depends on its left neighbour.

    So a token is decoded together with its neighbour, whose own text is then cut off. `<0xNN>` tokens are bytes: a
    run of them is valid UTF-8, or invalid, as a whole, and is held back until another token ends it.
    """

    _BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")

    def __init__(self, decoder: decoders.Decoder | None) -> None:
        self._decode = " ".join if decoder is None else decoder.decode
        self._neighbour: list[str] = []
        self._held: list[str] = []

    def push(self, token: str) -> str:
        self._held.append(token)
        return "" if self._BYTE.fullmatch(token) else self._release()

    def flush(self) -> str:
        text = self._release()
        self._neighbour = []
        return text

    def _release(self) -> str:
        text = self._decode(self._neighbour + self._held)[len(self._decode(self._neighbour)) :]
        self._neighbour, self._held = self._held[-1:], []
        return text


def _piece_decoder(decoder: decoders.Decoder | None) -> _BytePieces | _NeighbourPieces:
    state = {} if decoder is None else json.loads(decoder.__getstate__())
    kinds = [step.get("type") for step in state.get("decoders", [state])]
    if kinds == ["ByteLevel"]:
        return _BytePieces()
    if {"ByteLevel", "CTC", "Sequence"}.intersection(kinds):
        raise ValueError(f"the tokenizer's decoder, {' + '.join(kinds)}, cannot decode tokens one by one")
    return _NeighbourPieces(decoder)


def _byte_of_character() -> dict[str, int]:
    """Map the characters of the byte-level alphabet to bytes: Latin-1 where visible, else from 256 up."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTE_OF_CHARACTER = _byte_of_character()

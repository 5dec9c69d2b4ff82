"""The tokenizer of `rxlm.data`, under the name that the papers' snippets import it from."""

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.data.tokenizer import (
    SPECIAL_TOKENS,
    encode_text,
    load_tokenizer,
    load_tokenizer_from_file,
    load_tokenizer_from_hf_hub,
    special_token_id,
    train_tokenizer,
)

__all__ = [
    "SPECIAL_TOKENS",
    "StreamDecoder",
    "encode_text",
    "load_tokenizer",
    "load_tokenizer_from_file",
    "load_tokenizer_from_hf_hub",
    "special_token_id",
    "train_tokenizer",
]

"""The tokenizer of `rxlm.data.tokenizer`, under the name that the papers' snippets import it from."""

from rxlm.data.tokenizer import (
    SPECIAL_TOKENS,
    StreamDecoder,
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

"""Tokenizers of several kinds, made here: byte-level with usual and odd added tokens, and like SentencePiece."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import train_tokenizer

CORPUS = [
    "One day, a little girl named Lily found a needle in her room.\n",
    "She knew it was difficult to play with it because it was sharp.\n",
    "[Q] What did Lily find? [A] A needle.\n",
    "Müller trank Kaffee ☕ und aß 日本 Kuchen 👩‍👩‍👧.\n",
] * 5


def build_trained() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, 340)


def build_with_odd_added_tokens() -> PreTrainedTokenizerFast:
    """Added tokens that are not in the byte-level alphabet, or look like it but are not bytes."""
    tokenizer = train_tokenizer(CORPUS, 300)
    tokenizer.add_tokens(["<tool call>", "日本", "é", "Ġ"])
    tokenizer.add_tokens([AddedToken("<end of turn>", special=True)])
    return tokenizer


def build_sentencepiece_like(*, metaspace: bool) -> PreTrainedTokenizerFast:
    """A Llama-like vocabulary: ▁ for a space, <0xNN> for what the vocabulary lacks."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdehilo日!", "▁a", "▁▁", "he", "▁he", "ll", "▁日"]
    merges = [("▁", "a"), ("▁", "▁"), ("h", "e"), ("▁", "he"), ("l", "l"), ("▁", "日")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)]
        )
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


TOKENIZERS = {
    "trained": build_trained(),
    "odd added tokens": build_with_odd_added_tokens(),
    "llama": build_sentencepiece_like(metaspace=False),
    "metaspace": build_sentencepiece_like(metaspace=True),
}


def decode(tokenizer, ids, *, skip_special_tokens=False) -> str:
    return tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)

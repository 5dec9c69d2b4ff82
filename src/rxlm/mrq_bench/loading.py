"""From a name on the command line to something that answers: which kind of model it is, and its adapter."""

from dataclasses import dataclass
from typing import Literal, cast

from rxlm.export.names import Engine
from rxlm.mrq_bench.prompts import History, TemplateName
from rxlm.mrq_bench.protocol import LanguageRespondent
from rxlm.nn.device import Dtype, device_of, dtype_of

Adapter = Literal["auto", "rxt", "transformers"]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is loaded and asked.

    Args:
        adapter: rxt for a Reactive Transformer, which a language model is made into where it is none; transformers for
            a causal language model; auto asks its configuration.
        history: what a stateless model is given of the conversation: full, none, turns:N (the last N), or tokens:N (as
            many of the last turns as fit).
        template: how a stateless model is shown the conversation: chat (its tokenizer's template), plain, or auto (chat
            where there is one).
        max_answer_tokens: an answer ends after so many tokens.
        memory_tokens: tokens that a memory of tokens keeps of a conversation; as many as the model says if not given.
        device: where to compute: cpu, cuda, cuda:1, ...
        dtype: type of the weights: float32, bfloat16, float16, or auto (bfloat16 on a GPU, elsewhere as saved).
        engine: what computes a Reactive Transformer on a CPU, see `rxlm chat`.
    """

    adapter: Adapter = "auto"
    history: str = "full"
    template: TemplateName = "auto"
    max_answer_tokens: int = 64
    memory_tokens: int | None = None
    device: str = "cpu"
    dtype: Dtype = "auto"
    engine: Engine | None = None

    def __post_init__(self) -> None:
        History.parse(self.history)
        dtype_of(self.dtype, device_of(self.device))
        if self.max_answer_tokens < 1:
            raise ValueError(f"max_answer_tokens must be at least 1, got {self.max_answer_tokens}.")


DEFAULT = ModelOptions()


def check_model(name: str, options: ModelOptions = DEFAULT, *, strict: bool = True) -> Adapter:
    """Return the adapter that fits a model; ValueError where nothing of that name is there.

    `strict` refuses options that mean nothing for the model: history and template for a Reactive Transformer, and
    memory_tokens and engine for a stateless model.
    """
    from rxlm.nn.pretrained import Address
    from rxlm.upcycling.loading import kind_of

    kind = kind_of(name)
    if kind == "transformers":
        Address.of(name)  # tells where there is no GGUF file
    adapter = kind if options.adapter == "auto" else options.adapter
    if strict and adapter == "rxt" and (options.history, options.template) != (DEFAULT.history, DEFAULT.template):
        raise ValueError(f"history and template are for stateless models; {name} has its memory alone.")
    if strict and adapter == "transformers" and options.memory_tokens is not None:
        raise ValueError(
            f"memory_tokens is for a memory of tokens, and {name} is measured as a stateless model: leave it out, take "
            "history tokens:N, or adapter rxt, which makes it a Reactive Transformer."
        )
    if strict and adapter == "transformers" and options.engine is not None:
        raise ValueError(
            f"engine is for Reactive Transformers, and {name} is measured as a stateless model: leave it out, or take "
            "adapter rxt, which makes it one."
        )
    return adapter


def load_respondent(name: str, options: ModelOptions = DEFAULT, *, strict: bool = True) -> LanguageRespondent:
    """Load a model, from a folder, from the hub by its id, or a GGUF file, with the adapter that fits it.

    Errors, and what `strict` refuses, are those of `check_model`.
    """
    if check_model(name, options, strict=strict) == "transformers":
        return _load_causal_lm(name, options)
    return _load_rxt(name, options)


def _load_rxt(name: str, options: ModelOptions) -> LanguageRespondent:
    from rxlm.mrq_bench.rxt_model import RxTRespondent
    from rxlm.upcycling.loading import open_model

    model = open_model(
        name,
        memory_tokens=options.memory_tokens,
        device=options.device,
        dtype=options.dtype,
        engine=options.engine,
    )
    return RxTRespondent(model, max_answer_tokens=options.max_answer_tokens)


def _load_causal_lm(name: str, options: ModelOptions) -> LanguageRespondent:
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

    import rxlm.llm  # noqa: F401  makes our language models known to transformers
    from rxlm.folders import reading
    from rxlm.mrq_bench.causal_lm import CausalLMRespondent
    from rxlm.nn.pretrained import Address

    address = Address.of(name)
    with reading(address.place):
        model = address.load_model(AutoModelForCausalLM)
        tokenizer = address.load(AutoTokenizer)
    return CausalLMRespondent(
        model.to(options.device, dtype_of(options.dtype, options.device)),
        cast(PreTrainedTokenizerBase, tokenizer),
        history=History.parse(options.history),
        template=options.template,
        max_answer_tokens=options.max_answer_tokens,
    )

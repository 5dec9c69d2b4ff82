"""A decoder-only language model with any attention of the family, at home in `transformers`.

Shapes: B batch, T tokens, D model dimension, V vocabulary.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel, initialization
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rxlm.folders import check_saved, reading, saving
from rxlm.llm.config import DecoderLMConfig
from rxlm.nn.attention import Attention
from rxlm.nn.feed_forward import FeedForward
from rxlm.nn.head import TokenHead
from rxlm.nn.key_values import KeyValues
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import Experts, Routing
from rxlm.nn.norm import make_norm
from rxlm.nn.rope import RotaryEmbedding
from rxlm.nn.weights import TELL_ALL, check_loaded


class DecoderLMPreTrainedModel(PreTrainedModel):
    """What the models have in common: how their weights begin, and what the library may do with them."""

    config_class = DecoderLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TransformerLayer"]  # noqa: RUF012  the library's own form
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **options: Any) -> None:
        """Save as every model of `transformers` does, but all of it or nothing; arguments are the library's."""
        folder = Path(save_directory)
        if options.get("distributed_checkpoint"):  # written by all processes
            super().save_pretrained(folder, *args, **options)
            return
        if options.get("push_to_hub"):
            options.setdefault("repo_id", folder.name)
        with saving(folder) as draft:
            super().save_pretrained(draft, *args, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **options: Any) -> Any:
        """Load as every model of `transformers` does; `WeightsError` for weights that are missing or no numbers."""
        wants_info, ignores_sizes = (options.pop(name, False) for name in TELL_ALL)
        name = str(pretrained_model_name_or_path)
        with reading(name):
            load = cast(Any, super().from_pretrained)
            model, info = load(pretrained_model_name_or_path, *args, **options, **TELL_ALL)
            if Path(name).is_dir():
                check_saved(name)
        found = {**info, "mismatched_keys": ()} if ignores_sizes else info
        check_loaded(model, found, name, strict="lm_head.weight" in model.state_dict())
        return (model, info) if wants_info else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Begin from small normal weights, the outputs of residual branches so that they add up to as much again."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, RotaryEmbedding):
            module.reset()
        elif isinstance(module, (Attention, FeedForward)):
            initialization.normal_(module.out_proj.weight, std=std * (2 * self.config.num_hidden_layers) ** -0.5)
        elif isinstance(module, Experts):
            initialization.normal_(module.w_in, std=std)
            initialization.normal_(module.w_out, std=std * (2 * self.config.num_hidden_layers) ** -0.5)
            for bias in (module.b_in, module.b_out):
                if bias is not None:
                    initialization.zeros_(bias)


class DecoderLMModel(DecoderLMPreTrainedModel):
    """Embedding, layers and final norm."""

    parameter_groups: ClassVar[Mapping[str, str]] = {"embed_tokens": "embeddings"}

    def __init__(self, config: DecoderLMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(build_layer(config) for _ in range(config.num_hidden_layers))
        self.norm = make_norm("rms", config.hidden_size, config.rms_norm_eps)
        self.rope = build_rope(config)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        routing: Routing | None = None,
        **_: Any,
    ) -> MoeModelOutputWithPast:
        """Return the last layer's states, (B, T, D); arguments as in every causal model of `transformers`.

        `routing` collects the load-balancing losses of expert layers.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        use_cache = self.config.use_cache if use_cache is None else use_cache
        recomputes = self.gradient_checkpointing and self.training
        if recomputes:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        rotation, mask = self._layout(inputs_embeds, attention_mask, position_ids, past_key_values)
        x, causal = inputs_embeds, mask is None and inputs_embeds.shape[1] > 1
        states: list[Tensor] = []
        cache = None if past_key_values is None else _LayersOf(past_key_values)
        for index, layer in enumerate(self.layers):
            if output_hidden_states:
                states.append(x)
            run = partial(layer, rotation=rotation, mask=mask, causal=causal, cache=cache, layer=index, routing=routing)
            x = cast(Any, self)._gradient_checkpointing_func(run, x) if recomputes else run(x)
        x = self.norm(x)
        return MoeModelOutputWithPast(
            last_hidden_state=cast(Any, x),
            past_key_values=past_key_values,
            hidden_states=cast(Any, (*states, x)) if output_hidden_states else None,
        )

    def _layout(
        self,
        embeds: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        past: Cache | None,
    ) -> tuple[Any, Tensor | None]:
        """Return the rotation of the tokens' positions, and the mask of attention where causality is not enough."""
        seen = 0 if past is None else int(past.get_seq_length())
        count = embeds.shape[1]
        in_order = torch.arange(seen, seen + count, device=embeds.device)
        positions = in_order if position_ids is None else position_ids
        rotation = self.rope(positions)
        grows = past is None or isinstance(past, DynamicCache)  # others hand out all their places, empty ones, too
        if seen == 0 and grows and _is_whole(attention_mask) and _is_in_order(position_ids, in_order):
            return rotation, None  # no mask: attention's own window costs less than one
        windowed = self.config.sliding_window is not None
        mask = (create_sliding_window_causal_mask if windowed else create_causal_mask)(
            config=self.config,
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            past_key_values=past,
            position_ids=positions.expand(len(embeds), -1),
        )
        if isinstance(mask, Tensor) and mask.dtype != torch.bool:
            mask = mask == 0  # "eager": what is added to the scores
        return rotation, cast(Tensor | None, mask)


class DecoderLMForCausalLM(DecoderLMPreTrainedModel, GenerationMixin):
    """The model with its head: `generate`, `Trainer`, PEFT and what else works with a causal model."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    parameter_groups: ClassVar[Mapping[str, str]] = {"lm_head": "embeddings"}

    def __init__(self, config: DecoderLMConfig) -> None:
        super().__init__(config)
        self.model = DecoderLMModel(config)
        self.lm_head = TokenHead(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> MoeCausalLMOutputWithPast | tuple[Any, ...]:
        """Return logits (B, T, V), or of the last `logits_to_keep` tokens; with `labels` (B, T) the loss, too.

        Labels are the ids themselves, -100 where no loss is due; each token is predicted from those before it. With
        experts the loss has `router_aux_loss_coef` times their load-balancing loss in it; where `num_items_in_batch`
        spans several microbatches, each has its share of it, as it has of the cross-entropy.
        """
        routing = None
        if self.config.num_experts and labels is not None:
            whole = attention_mask is not None and attention_mask.dim() == 2 and attention_mask.shape == labels.shape
            routing = Routing(mask=cast(Tensor, attention_mask).bool() if whole else None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=self.config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states,
            routing=routing,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss, balance = None, None if routing is None else routing.loss()
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
            if balance is not None:
                items = kwargs.get("num_items_in_batch")
                share = 1.0 if items is None else (labels[:, 1:] != -100).sum() / items
                loss = loss + self.config.router_aux_loss_coef * balance * share
        result = MoeCausalLMOutputWithPast(
            loss=loss,
            aux_loss=cast(Any, balance),
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )
        returns_dict = self.config.return_dict if return_dict is None else return_dict
        return result if returns_dict else result.to_tuple()


def _is_whole(mask: Tensor | None) -> bool:
    """Tell whether a mask (B, T) hides nothing, as far as can be told: a compiled graph does not look at values."""
    return mask is None or (not torch.compiler.is_compiling() and mask.dim() == 2 and bool(mask.all()))


def _is_in_order(positions: Tensor | None, in_order: Tensor) -> bool:
    """Tell whether positions count up without a gap, as far as can be told: see `_is_whole`."""
    return positions is None or (not torch.compiler.is_compiling() and bool((positions == in_order).all()))


class _LayersOf:
    """A cache of `transformers` as attention here wants it."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Store new keys and values and return those that are kept."""
        return KeyValues(*self.cache.update(keys, values, layer))

    def note(self, layer: int, scores: Tensor) -> None:
        """Layers here have no retention gate."""
        raise NotImplementedError


def build_layer(config: DecoderLMConfig) -> TransformerLayer:
    """Return one layer."""
    dim, eps = config.hidden_size, config.rms_norm_eps
    return TransformerLayer(
        dim, config.attention_config.build(dim, eps), config.feed_forward_config.build(dim), norm_eps=eps
    )


def build_rope(config: DecoderLMConfig) -> RotaryEmbedding:
    """Return the rotary embedding that `rope_parameters` describes."""
    assert config.head_dim is not None
    parameters = config.rope_parameters or {}
    kind = parameters.get("rope_type", "default")
    if kind == "default":
        return RotaryEmbedding(config.head_dim, parameters.get("rope_theta", 10000.0))
    frequencies, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    return RotaryEmbedding(config.head_dim, frequencies=frequencies.tolist())

"""A language model computes the same alone, padded, cached and packed, and generates as a plain loop does."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from language_models import SHAPE, language_model, tokens
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM
from rxlm.nn.attention import segment_mask
from rxlm.nn.heads import ATTENTION_VARIANTS, head_counts

KINDS: list[dict[str, Any]] = [
    {"attention": "mha"},
    {"attention": "sqa", "tie_word_embeddings": True},
    {"attention": "xsqa", "sliding_window": 5},
    {"attention": "rsqa", "qk_norm": True, "attention_bias": True},
    {"attention": "sqa", "num_experts": 4, "num_shared_experts": 1},
]
names = [", ".join(f"{name}={value}" for name, value in kind.items()) for kind in KINDS]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=names)


@pytest.mark.parametrize("variant", ATTENTION_VARIANTS)
def test_heads_are_those_of_the_kind(variant: str) -> None:
    attention = language_model(attention=variant).model.layers[0].attention

    assert (attention.num_query_heads, attention.num_kv_heads) == head_counts(variant, 8)


@torch.no_grad()
def test_sqa_with_all_heads_is_mha_weight_for_weight() -> None:
    mha = language_model(attention="mha")
    sqa = DecoderLMForCausalLM(
        DecoderLMConfig(**SHAPE, attention=None, num_query_heads=8, num_key_value_heads=8)
    ).eval()
    sqa.load_state_dict(mha.state_dict())
    ids = tokens(2, 12)

    assert torch.equal(sqa(ids).logits, mha(ids).logits)


@every_kind
@torch.no_grad()
def test_padding_at_either_side_changes_nothing(kind: dict[str, Any]) -> None:
    model, ids = language_model(**kind), tokens(1, 9)
    alone = model(ids).logits
    for left, right in ((4, 0), (0, 4), (3, 2)):
        padded = torch.nn.functional.pad(ids, (left, right))
        batch = torch.cat((padded, tokens(1, padded.shape[1], seed=1)))
        mask = torch.ones_like(batch)
        mask[0, :left], mask[0, left + 9 :] = 0, 0
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(batch, attention_mask=mask, position_ids=positions).logits

        torch.testing.assert_close(logits[:1, left : left + 9], alone, atol=1e-5, rtol=1e-5)


@every_kind
@torch.no_grad()
def test_a_cache_changes_nothing(kind: dict[str, Any]) -> None:
    model, ids = language_model(**kind), tokens(2, 17)
    whole = model(ids, use_cache=False).logits
    parts, cache = [], None
    for part in ids.split([7, 1, 1, 5, 1, 2], dim=1):
        output = model(part, past_key_values=cache, use_cache=True)
        parts.append(output.logits)
        cache = output.past_key_values

    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


@every_kind
def test_a_static_cache_generates_the_same(kind: dict[str, Any]) -> None:
    model, ids = language_model(**kind), tokens(2, 7)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    static = model.generate(ids, cache_implementation="static", disable_compile=True, **options)

    assert torch.equal(static, model.generate(ids, **options))


@every_kind
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(kind: dict[str, Any]) -> None:
    model, ids = language_model(**kind), tokens(1, 14)
    segments = torch.tensor([[1] * 8 + [2] * 6])
    positions = torch.tensor([[*range(8), *range(6)]])
    mask = segment_mask(segments, positions, causal=True, sliding_window=model.config.sliding_window)
    packed = model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits

    torch.testing.assert_close(packed[:, :8], model(ids[:, :8]).logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed[:, 8:], model(ids[:, 8:]).logits, atol=1e-5, rtol=1e-5)


TEMPERATURE, TOP_K, TOP_P = 0.8, 40, 0.9
END, PAD = SHAPE["eos_token_id"], SHAPE["pad_token_id"]


@torch.no_grad()
def plain_generation(
    model: DecoderLMForCausalLM, prompts: list[Tensor], count: int, *, sampled: bool = False
) -> list[list[int]]:
    """Continue rows, each alone and read anew for every token, as the definition has it; return what they add."""
    texts, added = [prompt[0].tolist() for prompt in prompts], [[] for _ in prompts]
    for _ in range(count):
        logits = torch.cat([model(torch.tensor([text]), use_cache=False).logits[:, -1] for text in texts])
        following = torch.multinomial(kept(logits), 1) if sampled else logits.argmax(-1, keepdim=True)
        for text, new, token in zip(texts, added, following[:, 0].tolist(), strict=True):
            if END not in new:
                new.append(token)
            text.append(token)
        if all(END in new for new in added):
            break
    return added


def kept(logits: Tensor) -> Tensor:
    """Probabilities (B, V) of the likeliest tokens: the first TOP_K, and of them the fewest that make TOP_P."""
    probabilities = (logits / TEMPERATURE).softmax(-1)
    likeliest, order = probabilities.sort(descending=True, stable=True)
    likeliest[:, TOP_K:] = 0
    likeliest /= likeliest.sum(-1, keepdim=True)
    likeliest[likeliest.cumsum(-1) - likeliest >= TOP_P] = 0
    return torch.zeros_like(likeliest).scatter(1, order, likeliest / likeliest.sum(-1, keepdim=True))


def prompts_of_three_lengths() -> list[Tensor]:
    return [tokens(1, length, seed=length) for length in (3, 8, 6)]


def padded(prompts: list[Tensor], *, left: bool) -> Tensor:
    width = max(prompt.shape[1] for prompt in prompts)
    missing = [width - prompt.shape[1] for prompt in prompts]
    sides = [(count, 0) if left else (0, count) for count in missing]
    return torch.cat([torch.nn.functional.pad(prompt, side) for prompt, side in zip(prompts, sides, strict=True)])


def new_tokens(out: Tensor, width: int) -> list[list[int]]:
    """What rows of `generate` add to a prompt of `width` tokens, up to the end token."""
    rows = out[:, width:].tolist()
    return [row[: row.index(END) + 1] if END in row else row for row in rows]


@every_kind
def test_greedy_generation_is_that_of_a_plain_loop_whatever_the_padding(kind: dict[str, Any]) -> None:
    model, prompts = language_model(**kind), prompts_of_three_lengths()
    batch = padded(prompts, left=True)
    out = model.generate(batch, attention_mask=(batch != PAD).long(), max_new_tokens=12, do_sample=False)

    assert new_tokens(out, batch.shape[1]) == plain_generation(model, prompts, 12)


@every_kind
def test_sampled_generation_is_that_of_a_plain_loop_whatever_the_padding(kind: dict[str, Any]) -> None:
    model, prompts = language_model(**kind), prompts_of_three_lengths()
    batch = padded(prompts, left=True)
    torch.manual_seed(7)
    wanted = plain_generation(model, prompts, 12, sampled=True)
    torch.manual_seed(7)
    out = model.generate(
        batch,
        attention_mask=(batch != PAD).long(),
        max_new_tokens=12,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=TOP_K,
        top_p=TOP_P,
    )

    assert new_tokens(out, batch.shape[1]) == wanted


@every_kind
@torch.no_grad()
def test_rows_padded_at_the_right_go_on_as_they_do_alone(kind: dict[str, Any]) -> None:
    model, prompts = language_model(**kind), prompts_of_three_lengths()
    batch = padded(prompts, left=False)
    mask = (batch != PAD).long()
    logits = model(batch, attention_mask=mask).logits[torch.arange(len(batch)), mask.sum(1) - 1]

    assert [[token] for token in logits.argmax(-1).tolist()] == plain_generation(model, prompts, 1)


@every_kind
def test_beams_find_the_same_with_a_cache_and_without(kind: dict[str, Any]) -> None:
    model, batch = language_model(**kind), padded(prompts_of_three_lengths(), left=True)
    options = {"attention_mask": (batch != PAD).long(), "max_new_tokens": 8, "num_beams": 3, "do_sample": False}

    assert torch.equal(
        model.generate(batch, use_cache=True, **options), model.generate(batch, use_cache=False, **options)
    )


@every_kind
def test_a_conversation_goes_on_from_its_cache_as_from_its_text(kind: dict[str, Any]) -> None:
    model, prompt = language_model(**kind), tokens(1, 6)
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    first = model.generate(prompt, attention_mask=torch.ones_like(prompt), return_dict_in_generate=True, **options)
    text = torch.cat((first.sequences, tokens(1, 4, seed=1)), dim=1)
    mask = torch.ones_like(text)

    assert torch.equal(
        model.generate(text, attention_mask=mask, past_key_values=first.past_key_values, **options),
        model.generate(text, attention_mask=mask, **options),
    )


@pytest.mark.parametrize("given", [(), ("attention_mask",), ("attention_mask", "position_ids")], ids=str)
@pytest.mark.parametrize("kind", [{"attention": "sqa"}, {"attention": "xsqa", "sliding_window": 5}], ids=str)
def test_it_compiles_as_one_graph(kind: dict[str, Any], given: tuple[str, ...]) -> None:
    model, ids = language_model(**kind), tokens(2, 9)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    arguments = {"attention_mask": mask, "position_ids": torch.arange(9).expand(2, -1)}
    chosen = {name: arguments[name] for name in given}
    wanted = model(ids, labels=ids, use_cache=False, **chosen)
    torch.compiler.reset()
    output = torch.compile(model, backend="eager", fullgraph=True)(ids, labels=ids, use_cache=False, **chosen)

    torch.testing.assert_close(output.logits[mask.bool()], wanted.logits[mask.bool()])
    torch.testing.assert_close(output.loss, wanted.loss)


@every_kind
@torch.no_grad()
def test_a_saved_model_loads_by_the_auto_classes(kind: dict[str, Any], tmp_path: Any) -> None:
    model, ids = language_model(**kind), tokens(2, 10)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    assert type(AutoConfig.from_pretrained(tmp_path)) is DecoderLMConfig
    assert (tmp_path / "model.safetensors").is_file()
    assert torch.equal(loaded(ids).logits, model(ids).logits)


@every_kind
def test_gradient_checkpointing_gives_the_same_gradients(kind: dict[str, Any]) -> None:
    model, ids = language_model(**kind).train(), tokens(2, 10)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(ids, labels=ids, use_cache=False).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients()
    model.activation_checkpointing_enable()
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_the_loss_counts_labels_only_and_experts_are_balanced() -> None:
    model, ids = language_model(num_experts=4), tokens(2, 10)
    labels = ids.masked_fill(torch.arange(10) < 4, -100)
    output = model(ids, labels=labels)
    wanted = torch.nn.functional.cross_entropy(output.logits[:, 3:-1].flatten(0, 1), ids[:, 4:].flatten())

    assert output.aux_loss >= 1
    torch.testing.assert_close(output.loss, wanted + model.config.router_aux_loss_coef * output.aux_loss)


@torch.no_grad()
def test_experts_are_balanced_once_an_update_whatever_the_accumulation() -> None:
    model, ids = language_model(num_experts=4), tokens(1, 10)
    short = ids.masked_fill(torch.arange(10) < 7, -100)
    whole = model(ids.expand(4, -1), labels=ids.expand(4, -1), num_items_in_batch=36).loss
    parts = [model(ids, labels=ids, num_items_in_batch=torch.tensor(36)).loss for _ in range(4)]
    torch.testing.assert_close(sum(parts), whole)
    output = model(ids, labels=short, num_items_in_batch=12)
    alone = model(ids, labels=short, num_items_in_batch=3)

    torch.testing.assert_close(output.loss * 4, alone.loss)
    assert alone.loss > model.config.router_aux_loss_coef * alone.aux_loss


@torch.no_grad()
def test_hidden_states_and_the_last_logits() -> None:
    model, ids = language_model(), tokens(2, 10)
    output = model(ids, output_hidden_states=True, logits_to_keep=3)

    assert len(output.hidden_states) == SHAPE["num_hidden_layers"] + 1
    assert torch.equal(model.lm_head(output.hidden_states[-1])[:, -3:], output.logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "cheap"}, "Unknown attention variant 'cheap'; known: mha, gqa"),
        ({"attention": "sqa", "num_query_heads": 8}, "attention='sqa' with 8 heads has num_query_heads=4, got 8"),
        ({"attention": None}, "num_query_heads and num_key_value_heads must be given; got None and None"),
        ({"num_attention_heads": 6}, "num_heads must be a multiple of 4, got 6"),
        ({"head_dim": 7}, "head_dim must be even for rotary embedding, got 7"),
        ({"hidden_act": "swish"}, "hidden_act must be one of silu, gelu"),
        ({"sliding_window": 0}, "sliding_window must be a whole number of at least 1, got 0"),
        ({"num_experts": 2, "num_experts_per_tok": 3}, "between 1 and num_experts=2, got 3"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "has the type 'yarn'"),
    ],
)
def test_a_configuration_that_cannot_be_is_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        DecoderLMConfig(**{**SHAPE, **changes})
    assert not isinstance(caught.value, (AttributeError, TypeError, AssertionError))

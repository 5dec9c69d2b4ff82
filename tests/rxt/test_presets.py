"""Presets have the sizes that their names promise, and the accounting of costs counts what is there."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast

from helpers import ARCHITECTURES, build, some_ids, some_memory
from rxlm.rxt.accounting import (
    decoding_flops,
    decoding_parameters,
    memory_bytes,
    parameter_table,
    update_flops,
)
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import PRESETS, build_preset, preset_config
from rxlm.rxt.text import token_ids_of


def shape_of(name: str) -> RxTAlpha:
    """Build a preset without its weights."""
    with torch.device("meta"):
        return build_preset(name)


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 0.83), ("nano", 12), ("micro", 26), ("mini", 100), ("alpha", 160)]
)
def test_a_preset_has_the_size_that_it_promises(name, millions):
    model = shape_of(name)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == parameter_table(model)["all"].total
    assert counted == pytest.approx(millions * 1e6, rel=0.05)


def test_alpha_has_the_memory_of_the_paper():
    model = shape_of("alpha")
    memory = model.memory_writer.config
    assert (memory.num_layers, memory.num_slots, memory.dim) == (12, 256, 256)
    assert parameter_table(model)["memory attention"].total == pytest.approx(5.5e6, rel=0.05)
    assert memory_bytes(model) == 12 * 256 * 256 * 4


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    values = {part: json.loads(json.dumps(config.to_dict())) for part, config in preset_config(name).items()}
    with torch.device("meta"):
        assert RxTAlpha(**values).config_dict() == shape_of(name).config_dict()


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'huge'; there are tiny, nano, micro, mini, alpha"):
        preset_config("huge")


def test_the_table_of_tiny_counts_every_weight():
    """By hand: D = 128, 8 heads of 16; the decoder has 4 query and 2 key/value heads, the others 4 and 4."""
    d, ff, vocabulary, slots, layers = 128, 256, 1024, 16, 2
    feed_forward = d * 2 * ff + ff * d
    sqa = d * 64 + 2 * d * 32 + 64 * d
    symmetric = d * 64 + 2 * d * 64 + 64 * d
    decoder_layer = sqa + sqa + feed_forward + 4 * d
    encoder_layer = symmetric + feed_forward + 2 * d
    content_gate = 2 * d * d + d + 2 * d
    memory_layer = symmetric + d + content_gate + 2 * d
    table = parameter_table(build_preset("tiny"))
    assert table["embedding"] == (vocabulary * d, 0)
    assert table["decoder"] == (layers * decoder_layer + d,) * 2
    assert table["head"] == (0, vocabulary * d)
    assert table["encoder"] == (layers * encoder_layer,) * 2
    assert table["memory attention"] == (layers * (memory_layer + slots * d),) * 2


def test_of_routed_experts_only_the_chosen_ones_are_active():
    """4 experts, 2 chosen, 2 shared: active are the shared ones, the router and half of the routed weights."""
    model = build("mqa-moe-grouped-static")
    table = parameter_table(model)
    expert_layers = [layer.feed_forward for layer in model.decoder.layers if hasattr(layer.feed_forward, "router")]
    routed = sum(weight.numel() for layer in expert_layers for weight in layer.experts.parameters())
    assert len(expert_layers) == 6
    assert table["decoder"].total - table["decoder"].active == routed // 2
    assert table["decoder"].total == sum(
        weight.numel()
        for name, weight in model.decoder.named_parameters()
        if not name.startswith(("embedding", "head"))
    )


def test_a_memory_costs_what_its_numbers_take():
    model = build("mha-simple-content")
    assert memory_bytes(model) == some_memory(model, [0]).num_bytes == 2 * 6 * 16 * 8
    assert memory_bytes(model.half()) == 2 * 6 * 16 * 2


def test_for_a_token_the_decoder_reads_all_active_weights_but_those_that_projected_the_memory():
    model = build("mha-simple-content")
    table = parameter_table(model)
    readers = [layer.memory_reader for layer in model.decoder.layers]
    projected = sum(weight.numel() for each in readers for weight in (each.k_proj.weight, each.v_proj.weight))
    assert decoding_parameters(model) == table["decoder"].active + table["head"].active - projected


@pytest.mark.parametrize("name", ["tiny", "nano"])
@pytest.mark.parametrize("position", [0, 17])
@torch.no_grad()
def test_the_operations_of_a_turn_are_those_that_pytorch_counts(name, position, monkeypatch):
    """Of matrix products; norms and activations are left out here, and count for a percent."""
    model = build_preset(name).float().eval()
    memory = model.init_memory(1, seed=0)
    reading, cache = model.read_memory(memory), model.decoder.new_cache(1)
    monkeypatch.setattr("rxlm.nn.linear.LARGE_WEIGHT", 2**40)  # oneDNN's products are not counted, nor other kernels
    with sdpa_kernel(SDPBackend.MATH):
        if position:
            model.decoder.hidden_states(some_ids(1, position), reading, cache=cache)
            cache.advance_prompt([position] * len(cache.filled))
        with FlopCounterMode(display=False) as step:
            model.decoder.head(model.decoder.hidden_states(some_ids(1, 1), reading, cache=cache))
        with FlopCounterMode(display=False) as update:
            model.update_memory(memory, some_ids(1, position + 3))
    assert decoding_flops(model, position) == pytest.approx(step.get_total_flops(), rel=0.02)
    assert update_flops(model, position + 3) == pytest.approx(update.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_table_adds_up_for_every_kind_of_model(name):
    model = build(name)
    assert parameter_table(model)["all"].total == sum(parameter.numel() for parameter in model.parameters())


def test_tokenizer_without_the_special_tokens_is_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(ValueError, match=r"The tokenizer lacks the special tokens \[PAD\], \[BOS\]"):
        token_ids_of(bare)

"""`rxlm info`."""

from typing import Annotated

import torch
import tyro
from rich.table import Table

from rxlm.cli.output import Output
from rxlm.export.engines import describe
from rxlm.rxt.accounting import decoding_flops, memory_bytes, parameter_table, update_flops
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import PRESETS, build_preset
from rxlm.upcycling.loading import open_model


def info(model: Annotated[str, tyro.conf.Positional], /) -> None:
    """Show what a model is made of and what it costs.

    Prints its parameters by component (in all, and those that one token uses), the bytes that a conversation keeps,
    and floating-point operations a token and a memory update, and what computes it. For a preset no weights are made.

    Args:
        model: a folder, a hub id, or a preset: tiny, nano, micro, mini or alpha.
    """
    if model in PRESETS:
        with torch.device("meta"):
            network = build_preset(model)
        engine = None
    else:
        network = open_model(model)
        engine = describe(network)
        if network.engine != "torch":  # the counts are those of the model before it was exported
            with torch.device("meta"):
                network = type(network).from_config_dict(network.config_dict())
    console = Output()
    console.print(_parameters(network, model))
    console.print(_costs(network, engine))


def _parameters(model: RxTAlpha, name: str) -> Table:
    table = Table(title=f"{name}: {type(model).__name__}", title_justify="left")
    table.add_column("component")
    table.add_column("parameters", justify="right")
    table.add_column("active a token", justify="right")
    rows = parameter_table(model)
    for component, count in rows.items():
        if component == "all":
            table.add_section()
        table.add_row(component, f"{count.total:,}", f"{count.active:,}")
    return table


def _costs(model: RxTAlpha, engine: str | None) -> Table:
    decoder = model.decoder.config
    query, key_value = decoder.attention_heads
    first, last = (decoding_flops(model, position) / 1e6 for position in (0, model.max_seq_len - 1))
    update = update_flops(model, model.max_seq_len)
    moe = decoder.experts
    experts = f", {moe.num_experts} experts, {moe.experts_per_token} a token" if moe else ""
    rows = {
        "decoder": f"{len(model.decoder.layers)} layers of {decoder.dim}, "
        f"{query} query and {key_value} key/value heads of {decoder.attention.num_heads}{experts}",
        "memory": model.memory_writer.config.describe(),
        "a conversation keeps": f"{memory_bytes(model):,} bytes ({str(model.dtype).removeprefix('torch.')})",
        "query and answer": f"up to {model.max_seq_len:,} tokens of a vocabulary of {decoder.vocab_size:,}",
        "a new token": f"{first:,.1f} MFLOP (first of a turn) to {last:,.1f} MFLOP (last)",
        "a memory update": f"{update / 1e9:,.3f} GFLOP for {model.max_seq_len:,} tokens",
        **({} if engine is None else {"computed by": engine}),
    }
    table = Table(show_header=False)
    for label, value in rows.items():
        table.add_row(label, value)
    return table

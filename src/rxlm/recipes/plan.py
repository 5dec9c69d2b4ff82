"""What `rxlm train RECIPE --dry-run --devices N` shows: the memory that each stage takes on each of N devices."""

from collections.abc import Iterator
from dataclasses import fields

import torch
from rich.filesize import decimal
from rich.table import Table

from rxlm.recipes.recipe import Recipe
from rxlm.recipes.stages import StageConfig
from rxlm.training.distributed import Parallel
from rxlm.training.memory_plan import MemoryPlan, memory_plan


def plans(
    recipe: Recipe, devices: int, parallel: Parallel, devices_of_node: int = 8
) -> Iterator[tuple[StageConfig, MemoryPlan]]:
    """Yield each stage that is not on request, and what it takes on each device; nothing is loaded or computed.

    Args:
        recipe: the run.
        devices: how many share the work of a step. devices_of_node: of one machine, for "hsdp".
        parallel: how they share it.
    """
    for stage in recipe.stages:
        if stage.on_request:
            continue
        with torch.device("meta"):
            module = stage.module(recipe.model_of_shape())
        rows, tokens = stage.microbatch(recipe.max_tokens)
        yield (
            stage,
            memory_plan(
                module,
                rows,
                tokens,
                devices=devices,
                parallel=parallel,
                devices_of_node=min(devices, devices_of_node),
                bytes_of_products=2 if stage.precision == "bfloat16" else 4,
                activation_checkpointing=stage.activation_checkpointing,
            ),
        )


def plan_table(recipe: Recipe, devices: int, parallel: Parallel) -> Table:
    """Return the plans as a table, a column a stage."""
    found = list(plans(recipe, devices, parallel))
    table = Table(title=f"Memory on each of {devices} device(s), {parallel}", title_justify="left")
    for name in ("", *(stage.folder for stage, _ in found)):
        table.add_column(name, justify="right" if name else "left")
    shapes = [stage.microbatch(recipe.max_tokens) for stage, _ in found]
    table.add_row("rows x tokens", *(f"{rows} x {tokens:,}" for rows, tokens in shapes), end_section=True)
    for part in (*(field.name for field in fields(MemoryPlan)), "total"):
        sizes = [decimal(getattr(plan, part)) for _, plan in found]
        table.add_row(part if part != "total" else "at most", *sizes)
    return table

"""What `rxlm train RECIPE --dry-run --devices N` shows: the memory that each stage takes on each of N devices."""

from collections.abc import Iterator
from dataclasses import fields

import torch
from rich.filesize import decimal
from rich.table import Table

from rxlm.config import require
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.stages import StageConfig
from rxlm.training.distributed import Parallel
from rxlm.training.memory_plan import MemoryPlan, memory_plan

DEVICES_OF_NODE = 8
"""Of one machine, for "hsdp"; all of them, where there are fewer."""


def plans(
    recipe: Recipe, devices: int, parallel: Parallel, last_stage: str | None = None
) -> Iterator[tuple[StageConfig, MemoryPlan]]:
    """Yield each stage up to one, as they are trained, and what it takes on each device.

    Nothing is loaded or computed.

    Args:
        recipe: the run.
        devices: how many share the work of a step. parallel: how they share it.
        last_stage: as for `TrainingRun.train`.

    Raises `ConfigError` where the devices are not those of whole machines, and hsdp divides among those of one.
    """
    of_node = min(devices, DEVICES_OF_NODE)
    require(
        parallel != "hsdp" or devices % of_node == 0,
        f"devices must be a multiple of {DEVICES_OF_NODE} for hsdp, which is planned for machines of so many each, "
        f"got {devices}.",
    )
    for stage in recipe.stages_up_to(last_stage):
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
                devices_of_node=of_node,
                bytes_of_products=2 if stage.precision == "bfloat16" else 4,
                activation_checkpointing=stage.activation_checkpointing,
            ),
        )


def plan_table(recipe: Recipe, devices: int, parallel: Parallel, last_stage: str | None = None) -> Table:
    """Return the plans as a table, a column a stage."""
    found = list(plans(recipe, devices, parallel, last_stage))
    of_node = f", {min(devices, DEVICES_OF_NODE)} of a machine" if parallel == "hsdp" else ""
    table = Table(title=f"Memory on each of {devices} device(s), {parallel}{of_node}", title_justify="left")
    for name in ("", *(stage.folder for stage, _ in found)):
        table.add_column(name, justify="right" if name else "left")
    shapes = [stage.microbatch(recipe.max_tokens) for stage, _ in found]
    table.add_row("rows x tokens", *(f"{rows} x {tokens:,}" for rows, tokens in shapes), end_section=True)
    for part in (*(field.name for field in fields(MemoryPlan)), "total"):
        sizes = [decimal(getattr(plan, part)) for _, plan in found]
        table.add_row(part if part != "total" else "at most", *sizes)
    return table

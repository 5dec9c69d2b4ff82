"""A model whose memory keeps tokens has no encoder, and says so to whoever needs one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import ARCHITECTURES, build, configuration, some_ids
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.rxt.accounting import parameter_table, update_flops
from rxlm.rxt.models import RxTAlpha
from rxlm.training.memory_attention import MemoryAttentionPretraining, MemoryAttentionTrainingConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.module import MemoryReinforcement

RETAINED = "gqa-biased-retained"


def test_there_is_nothing_to_encode_with() -> None:
    model = build(RETAINED)
    assert model.encoder is None
    assert not any(name.startswith("encoder") for name in model.state_dict())
    with pytest.raises(
        ValueError, match="This model has no encoder: its memory, of the kind 'retained', keeps what the"
    ):
        model.encode(some_ids(1, 4))


def test_slots_need_an_encoder() -> None:
    arguments = configuration(ARCHITECTURES["mha-simple-content"]) | {"encoder_config": None}
    with pytest.raises(
        ConfigError, match="A memory of the kind 'slots' is written from what an encoder makes of a turn"
    ):
        RxTAlpha(**arguments)


@torch.no_grad()
def test_a_saved_model_is_the_same(tmp_path: Path) -> None:
    model, ids = build(RETAINED), some_ids(2, 6)
    model.save_pretrained(tmp_path)
    loaded = RxTAlpha.from_pretrained(tmp_path)
    loaded.share_components()
    assert loaded.config_dict() == model.config_dict()
    memories = [each.update_memory(each.init_memory(2), ids) for each in (model, loaded)]
    assert torch.equal(model.decode(ids, memories[0]), loaded.decode(ids, memories[1]))


def test_its_parameters_are_those_of_the_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(RETAINED)
    table = parameter_table(model)
    assert list(table) == ["embedding", "decoder", "head", "memory attention", "all"]
    assert table["all"].total == sum(parameter.numel() for parameter in model.parameters())
    assert update_flops(model, 5) == 0  # what is kept was computed while the turn was answered
    model.save_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    assert "encoder" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "stage",
    [
        lambda model: MemoryAttentionPretraining(model, MemoryAttentionTrainingConfig()),
        lambda model: MemoryAware(model, MemoryAwareConfig()),
        lambda model: MemoryReinforcement(model, MRLConfig()),
    ],
)
def test_stages_that_train_an_encoder_refuse_it_before_any_work(stage: Callable[[RxTAlpha], Any]) -> None:
    with pytest.raises(ValueError, match=r"This model has no encoder|Stage 3 pulls slots towards a mean"):
        stage(build(RETAINED))

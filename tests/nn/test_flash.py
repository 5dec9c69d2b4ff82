"""The optional flash-attn backend: says why it cannot run, and computes what PyTorch's own attention computes.

flash-attn needs a GPU. Here a stand-in takes its place, which computes by the package's documented conventions: tensors
(B, T, H, d), head counts that may differ, a window of (left, right) with -1 for none, and causal aligned to the end.
"""

import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import ARCHITECTURES, MAX_SEQ_LEN, Architecture, assert_close, build, configuration, randomise, some_ids
from rxlm.nn import attention as attention_module
from rxlm.nn import flash
from rxlm.nn.attention import Attention, AttentionConfig
from rxlm.nn.flash import flash_unavailable
from rxlm.nn.heads import HeadCounts
from rxlm.rxt.models import RxTAlpha


def stand_in(q, k, v, causal=False, window_size=(-1, -1)):
    """Attention as flash_attn_func documents it."""
    stand_in.calls += 1
    group = q.shape[2] // k.shape[2]
    k, v = (tensor.repeat_interleave(group, dim=2) for tensor in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
    distance = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1] - torch.arange(k.shape[1])
    left, right = window_size[0], 0 if causal else window_size[1]
    if left >= 0:
        scores = scores.masked_fill(distance > left, -torch.inf)
    if right >= 0:
        scores = scores.masked_fill(-distance > right, -torch.inf)
    return torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v)


@pytest.fixture
def no_flash(monkeypatch):
    """flash-attn is not installed."""
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    flash._package.cache_clear()
    yield
    flash._package.cache_clear()


@pytest.fixture
def installed_flash(monkeypatch):
    """flash-attn is installed, and there is no GPU."""
    stand_in.calls = 0
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=stand_in))
    flash._package.cache_clear()
    yield
    flash._package.cache_clear()


def attention(*counts: int, **options: object) -> Attention:
    """Return attention with 4 heads of 4, or so many of them for queries, and for keys and values."""
    heads = HeadCounts(*counts)._asdict() if counts else {}
    return AttentionConfig(num_heads=4, **heads, **options).build(16)


@pytest.fixture
def working_flash(installed_flash, monkeypatch):
    """flash-attn is installed and can run here."""
    monkeypatch.setattr(attention_module, "flash_unavailable", lambda queries=None: None)


def test_without_the_package_flash_is_refused_and_auto_computes_anyway(no_flash):
    with pytest.raises(ValueError, match="'flash' cannot be honoured: the package flash-attn is not installed"):
        attention(backend="flash")
    x = torch.randn(1, 3, 16)
    auto = attention(backend="auto")
    plain = attention()
    plain.load_state_dict(auto.state_dict())
    with torch.no_grad():
        assert torch.equal(auto(x), plain(x))


def test_on_a_cpu_flash_says_why_it_cannot_run_and_auto_computes_anyway(installed_flash):
    x = torch.randn(1, 3, 16)
    with pytest.raises(ValueError, match=r"'flash' cannot be honoured: .* the model is on cpu"):
        attention(backend="flash")(x)
    assert attention(backend="auto")(x).shape == x.shape
    assert stand_in.calls == 0


@pytest.mark.parametrize(
    ("queries", "reason"),
    [
        (SimpleNamespace(is_cuda=False, device="cpu"), "on cpu"),
        (SimpleNamespace(is_cuda=True, dtype=torch.float32), "in torch.float32"),
        (SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=(1, 1, 1, 512)), "the model's is 512"),
        (SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=(1, 1, 1, 256)), None),
        (SimpleNamespace(is_cuda=True, dtype=torch.float16, shape=(1, 1, 1, 64)), None),
    ],
)
def test_flash_needs_a_gpu_half_precision_and_moderate_heads(installed_flash, queries, reason):
    found = flash_unavailable(queries)
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize("counts", [(4, 4), (4, 2), (4, 1), (2, 4), (1, 2)], ids=str)
@pytest.mark.parametrize("causal", [True, False])
@given(length=st.integers(1, 9), window=st.none() | st.integers(1, 10))
@torch.no_grad()
def test_flash_computes_what_pytorchs_attention_computes(counts, causal, length, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=stand_in))
        patch.setattr(attention_module, "flash_unavailable", lambda queries=None: None)
        flash._package.cache_clear()
        stand_in.calls = 0
        fast = randomise(attention(*counts, sliding_window=window, backend="flash").double())
        plain = attention(*counts, sliding_window=window).double()
        plain.load_state_dict(fast.state_dict())
        x = torch.randn(2, length, 16, dtype=torch.float64)
        assert_close(fast(x, causal=causal), plain(x, causal=causal))
        assert stand_in.calls == 1
        if window is None:
            y = torch.randn(2, 5, 16, dtype=torch.float64)
            assert_close(fast(x, y), plain(x, y))
            assert stand_in.calls == 2
    flash._package.cache_clear()


@torch.no_grad()
def test_calls_with_a_mask_take_pytorchs_attention(working_flash):
    fast, x = attention(backend="flash"), torch.randn(1, 3, 16)
    fast(x, mask=torch.ones(1, 1, 1, 3, dtype=torch.bool))
    assert stand_in.calls == 0
    fast(x)
    assert stand_in.calls == 1


@pytest.mark.parametrize("name", ["mha-simple-content", "gqa-window-self-elementwise", "mqa-moe-grouped-static"])
def test_a_model_on_flash_answers_and_remembers_like_one_without(working_flash, name):
    _, shared, decoder, encoder, memory, _ = ARCHITECTURES[name]
    backend = {"attention_backend": "flash"}
    fast = Architecture(ARCHITECTURES[name].num_layers, shared | backend, decoder, encoder, memory | backend)
    plain, model = build(name), RxTAlpha(**configuration(fast)).double().eval()
    model.load_state_dict(plain.state_dict())
    for turn in range(2):
        query = some_ids(1, 5, seed=turn)
        assert list(model.interact(query, seed=turn)) == list(plain.interact(query, seed=turn))
        assert_close(model.export_stm_state(), plain.export_stm_state())
    assert stand_in.calls > MAX_SEQ_LEN

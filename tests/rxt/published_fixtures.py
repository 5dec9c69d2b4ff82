"""The published checkpoint format a second time, slowly: a reference for `rxlm.rxt.published`, and a maker of files.

`PublishedModel` computes one row at a time, without batch, mask or cache, straight from tensors under their published
names. A tensor that it asks for and that is not there yet is made up at random: so the first run also makes the file,
with exactly the tensors that such a model has.

Shapes: T tokens, S slots, D model dimension, L layers, V vocabulary.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

ACTIVATIONS = {
    "swish": F.silu, "silu": F.silu, "gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "linear": lambda x: x,
}  # fmt: skip

SIZES: dict[str, Any] = {"num_layers": 2, "embed_dim": 16, "att_heads": 4, "seq_len": 32, "stm_size": 6}
COMPONENT: dict[str, Any] = {
    **SIZES, "vocab_size": 24, "ff_dim": 12, "self_att_type": "gqa", "cross_att_type": "mha", "att_groups": 2,
}  # fmt: skip
MEMORY: dict[str, Any] = {
    **SIZES, "att_type": "gqa", "att_groups": 2, "interlayer_att_type": "mha", "residual_gate_type": "elementwise",
}  # fmt: skip
ALPHA_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "query_token_id": 4, "answer_token_id": 5}
BETA_TOKENS = {
    **ALPHA_TOKENS, "think_token_id": 6, "tool_call_token_id": 7, "tool_use_token_id": 8, "internal_token_id": 9,
}  # fmt: skip


def published_config(
    decoder: dict[str, Any] | None = None,
    encoder: dict[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    variant: str | None = "interlayer",
    **top_level: Any,
) -> dict[str, Any]:
    """Return a tiny published `config.json`; a field given as `...` is left out of it."""
    parts = {
        "decoder_config": COMPONENT | (decoder or {}),
        "encoder_config": COMPONENT | {"skip_memory_cross_attention": True} | (encoder or {}),
        "memory_attention_config": MEMORY | (memory or {}),
    }
    kept = {part: {name: v for name, v in values.items() if v is not ...} for part, values in parts.items()}
    return {
        **kept, "tokenizer_config": ALPHA_TOKENS, "memory_attention_variant": variant, "tokenizer": None, **top_level,
    }  # fmt: skip


class PublishedModel:
    """A model in the published format.

    Args:
        config: the `config.json`.
        tensors: the file's tensors by published name; missing ones are made up.
        built: what was really built where the configuration does not tell: `variant`, `legacy_experts` (one tensor an
            expert), `encoder_reads_memory`.
    """

    def __init__(self, config: dict[str, Any], tensors: dict[str, Tensor] | None = None, **built: Any) -> None:
        self.config = config
        self.tensors = {} if tensors is None else dict(tensors)
        self.built = {"variant": config["memory_attention_variant"], "legacy_experts": False} | built
        self.random = torch.Generator().manual_seed(0)

    @classmethod
    def load(cls, folder: Path, **built: Any) -> "PublishedModel":
        """Read a folder in the published format."""
        return cls(json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors"), **built)

    def save(self, folder: Path) -> Path:
        """Write the folder, with all tensors that were asked for so far."""
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, folder / "model.safetensors")
        return folder

    def complete(self) -> "PublishedModel":
        """Ask for every tensor of the model once, in float64."""
        memory = self.some_memory()
        self.update_memory(memory, [4, 9, 5, 10])
        self.decode([4, 9], memory)
        for part in ("decoder", "memory_attention"):  # what such files hold besides weights
            self.tensors[f"{part}.model.stm.memory"] = memory[:, None].clone()
        self.tensors["decoder.model.layers.0.attention.rope.inv_freq"] = torch.ones(2)
        return self

    def some_memory(self, seed: int = 0) -> Tensor:
        """Return a random memory, (L, S, D)."""
        sizes = [self.config["memory_attention_config"][name] for name in ("num_layers", "stm_size", "embed_dim")]
        return torch.randn(sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    # --- the three networks --------------------------------------------------------------------------------------

    def decode(self, ids: list[int], memory: Tensor) -> Tensor:
        """Return next-token logits (T, V)."""
        x = self.embed(ids)
        for kind, prefix, layer in self.decoder_layers():
            x = self.layer("decoder", prefix, x, kind, None if layer is None else memory[layer], causal=True)
        get, vocabulary = self.field("decoder"), self.config["decoder_config"]["vocab_size"]
        if get("use_head_norm", False):
            rms = get("head_norm_type", "layer_norm") == "rms_norm"
            x = self.norm(x, "decoder.model.head_norm", rms)
        weight, bias = (
            self("decoder.model.head.weight", vocabulary, x.shape[-1]),
            self("decoder.model.head.bias", vocabulary),
        )
        return x @ weight.T + bias

    def encode(self, ids: list[int], memory: Tensor) -> Tensor:
        """Return the encoded data (L, T, D)."""
        get, x, states = self.field("encoder"), self.embed(ids), []
        reads = self.built.get("encoder_reads_memory", not get("skip_memory_cross_attention", False))
        for index in range(get("num_layers", 12)):
            kind = "moe" if get("use_moe", False) else "dense"
            slots = memory[index] if reads else None
            x = self.layer("encoder", f"encoder.model.layers.{index}", x, kind, slots, causal=False)
            states.append(x)
        return torch.stack(states)

    def update_memory(self, memory: Tensor, ids: list[int]) -> Tensor:
        """Return the memory (L, S, D) after an interaction."""
        encoded = self.encode(ids, memory)
        get, variant, num_layers = self.field("memory_attention"), self.built["variant"], len(memory)
        groups = get("num_groups", None) if variant == "grouped-self-interlayer" else 1
        size = num_layers // groups
        new = []
        for index, old in enumerate(memory):
            m = old
            if variant == "self":
                own = self.memory_norm(old, f"self_memory_norm_layers.{index}")
                update = self.memory_attention(f"self_attention_layers.{index}", own, own, "self_att")
                m = self.gate(old, update, f"self_residual_gate_layers.{index}")
            elif variant != "simple":
                group = memory[index // size * size : (index // size + 1) * size]
                mean = self.memory_norm(group.mean(0), "mean_stm_norm")
                own = self.memory_norm(old, f"mean_memory_norm_layers.{index}")
                source = mean if variant == "interlayer" else self.gate(own, mean, f"interlayer_gate_layers.{index}")
                update = self.memory_attention(f"mean_attention_layers.{index}", own, source, "interlayer_att")
                m = self.gate(old, update, f"mean_residual_gate_layers.{index}")
            queries = self.memory_norm(m, f"memory_norm_layers.{index}")
            keys = self.rms_norm(encoded[index], f"memory_attention.model.memory_input_norm_layers.{index}")
            update = self.memory_attention(f"attention_layers.{index}", queries, keys, "att", rotate_keys=True)
            new.append(self.gate(m, update, f"residual_gate_layers.{index}"))
        return torch.stack(new)

    # --- layers ----------------------------------------------------------------------------------------------------

    def decoder_layers(self) -> list[tuple[str, str, int | None]]:
        """Feed-forward kind, prefix and memory layer (None: stateless) of each layer."""
        get, prefix = self.field("decoder"), "decoder.model"
        before, after = (get(name, None) or [] for name in ("stateless_layers_config", "final_stateless_layers_config"))
        kind = "moe" if get("use_moe", False) else "dense"
        return [
            *((each, f"{prefix}.stateless_layers.{index}", None) for index, each in enumerate(before)),
            *((kind, f"{prefix}.layers.{index}", index) for index in range(get("num_layers", 12))),
            *((each, f"{prefix}.final_stateless_layers.{index}", None) for index, each in enumerate(after)),
        ]

    def layer(self, part: str, prefix: str, x: Tensor, kind: str, slots: Tensor | None, *, causal: bool) -> Tensor:
        get = self.field(part)
        rms = get("use_rms_norm", True)
        normed = self.norm(x, f"{prefix}.norm1", rms)
        gated = get("use_gated_attention", False)
        x = x + self.attention(
            part, f"{prefix}.attention", normed, normed, self.head_counts(part, "self"), gated, True, True, causal
        )
        if slots is not None:
            queries, keys = self.norm(x, f"{prefix}.norm2", rms), self.norm(slots, f"{prefix}.stm_norm", rms)
            cross_gated = get("use_gated_cross_attention", None)
            cross_gated = gated if cross_gated is None else cross_gated
            x = x + self.attention(
                part, f"{prefix}.memory_cross_attention", queries, keys, self.head_counts(part, "cross"), cross_gated,
                True, False, False,
            )  # fmt: skip
        stateless = "stateless" in prefix
        hidden = get("dense_layer_dim", 1536) if stateless else get("ff_dim", 1536)
        normed = self.norm(x, f"{prefix}.norm3", rms)
        if kind == "moe":
            return x + self.mixture(part, f"{prefix}.ff", normed)
        return x + self.dense(part, f"{prefix}.ff", normed, hidden)

    def attention(
        self,
        part: str,
        prefix: str,
        x: Tensor,
        y: Tensor,
        heads: tuple[int, int],
        gated: bool,
        rotate_queries: bool,
        rotate_keys: bool,
        causal: bool,
    ) -> Tensor:
        get, (num_queries, num_keys) = self.field(part), heads
        size = get("embed_dim", 512) // get("att_heads", 16)
        dim, out_heads = x.shape[-1], max(num_queries, num_keys)
        queries = (x @ self(f"{prefix}.q_proj.weight", num_queries * size, dim).T).split(size, dim=-1)
        keys = (y @ self(f"{prefix}.k_proj.weight", num_keys * size, dim).T).split(size, dim=-1)
        values = (y @ self(f"{prefix}.v_proj.weight", num_keys * size, dim).T).split(size, dim=-1)
        outputs = []
        for head in range(out_heads):
            key_head = head if num_keys >= num_queries else head // (num_queries // num_keys)
            query = queries[head % num_queries] if num_keys > num_queries else queries[head]
            key = keys[key_head]
            query = self.rotate(query, get("rope_base", 10000)) if rotate_queries else query
            key = self.rotate(key, get("rope_base", 10000)) if rotate_keys else key
            scores = query @ key.T / size**0.5
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
            outputs.append(scores.softmax(-1) @ values[key_head])
        out = torch.cat(outputs, dim=-1)
        if gated:
            gate = x @ self(f"{prefix}.gate_proj.weight", out_heads * size, dim).T
            out = out * ACTIVATIONS[get("gated_attention_activation", "sigmoid")](gate)
        out = out @ self(f"{prefix}.out_proj.weight", dim, out_heads * size).T
        return out + self(f"{prefix}.out_proj.bias", dim) if get("use_attention_output_bias", True) else out

    @staticmethod
    def rotate(x: Tensor, base: float) -> Tensor:
        """Multiply each pair of dimensions, as a complex number, by e^(i * angle)."""
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        frequencies = torch.tensor([base ** (-2 * i / x.shape[-1]) for i in range(x.shape[-1] // 2)]).double()
        angles = torch.arange(len(x)).double()[:, None] * frequencies
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    def dense(self, part: str, prefix: str, x: Tensor, hidden: int, *, bias: bool = True) -> Tensor:
        get, dim = self.field(part), x.shape[-1]
        gated, act = get("use_gated", True), ACTIVATIONS[get("ff_activation", "swish")]
        first, width = (f"{prefix}.fc1.linear", 2 * hidden) if gated else (f"{prefix}.fc1", hidden)
        inner = x @ self(f"{first}.weight", width, dim).T
        inner = inner + self(f"{first}.bias", width) if bias else inner
        if gated:
            linear, gate = inner.chunk(2, dim=-1)
            inner = linear * act(gate)
        else:
            inner = act(inner)
        out = inner @ self(f"{prefix}.fc2.weight", dim, hidden).T
        return out + self(f"{prefix}.fc2.bias", dim) if bias else out

    def stacked(self, part: str, prefix: str, names: str, x: Tensor, hidden: int, index: int, count: int, bias: bool):
        """Run one expert of a stack whose tensors are `names` + w1, w2, b1, b2."""
        get, dim = self.field(part), x.shape[-1]
        gated, act = get("use_gated", True), ACTIVATIONS[get("ff_activation", "swish")]
        width = 2 * hidden if gated else hidden
        inner = x @ self(f"{prefix}.{names}w1", count, dim, width)[index]
        inner = inner + self(f"{prefix}.{names}b1", count, width)[index] if bias else inner
        if gated:
            linear, gate = inner.chunk(2, dim=-1)
            inner = linear * act(gate)
        else:
            inner = act(inner)
        out = inner @ self(f"{prefix}.{names}w2", count, hidden, dim)[index]
        return out + self(f"{prefix}.{names}b2", count, dim)[index] if bias else out

    def mixture(self, part: str, prefix: str, x: Tensor) -> Tensor:
        """Token by token, expert by expert."""
        get, legacy = self.field(part), self.built["legacy_experts"]
        count, k, hidden = get("num_experts", 1), get("moe_top_k", 1), get("ff_dim", 1536)
        shared = get("num_shared_experts", 1)
        mode = "local" if legacy else get("moe_bias_mode", "global")
        shared_mode = "local" if legacy else get("moe_shared_experts_bias_mode", "local")
        shared_hidden = get("shared_expert_dim", None) or hidden
        router = self(f"{prefix}.router.gate.weight", count, x.shape[-1])
        rows = []
        for token in x:
            probabilities = (token @ router.T).softmax(-1)
            weights, chosen = probabilities.topk(k)
            row = torch.zeros_like(token)
            for weight, expert in zip(weights / weights.sum(), chosen.tolist(), strict=True):
                if legacy:
                    for each in range(count):  # make all up
                        self.dense(part, f"{prefix}.experts.{each}", token, hidden)
                    out = self.dense(part, f"{prefix}.experts.{expert}", token, hidden)
                else:
                    out = self.stacked(part, prefix, "", token, hidden, expert, count, mode == "local")
                row = row + weight * out
            weighted = get("moe_use_weighted_shared_experts", False)
            row = row * k / (k + shared) if weighted else row
            if mode == "global":
                row = row + self(f"{prefix}.global_bias", x.shape[-1])
            if shared:
                extra = self.shared(part, prefix, token, shared, shared_hidden, shared_mode)
                row = row + (extra * shared / (k + shared) if weighted else extra)
            rows.append(row)
        return torch.stack(rows)

    def shared(self, part: str, prefix: str, token: Tensor, count: int, hidden: int, mode: str) -> Tensor:
        local, legacy = mode == "local", self.built["legacy_experts"]
        if legacy:
            outs = [self.dense(part, f"{prefix}.shared_experts.{i}", token, hidden) for i in range(count)]
        elif count == 1:
            outs = [self.dense(part, f"{prefix}.shared_expert", token, hidden, bias=local)]
        else:
            outs = [self.stacked(part, prefix, "shared_", token, hidden, i, count, local) for i in range(count)]
        if count > 1:
            mix = (token @ self(f"{prefix}.shared_expert_gate.weight", count, len(token)).T).softmax(-1)
            outs = [weight * out for weight, out in zip(mix, outs, strict=True)]
        total = torch.stack(outs).sum(0)
        return total + self(f"{prefix}.shared_experts_bias", len(token)) if mode == "global" else total

    # --- memory attention -------------------------------------------------------------------------------------------

    def memory_attention(self, prefix: str, x: Tensor, y: Tensor, fields: str, *, rotate_keys: bool = False) -> Tensor:
        get, names = self.field("memory_attention"), [fields]
        if fields != "att":  # the step before: under the name of the variant, or the other, or as the main attention
            names += ["interlayer_att" if fields == "self_att" else "self_att", "att"]
        kind, groups, query_groups = (
            next((get(name + end, None) for name in names if get(name + end, None) is not None), default)
            for end, default in (("_type", "sqa"), ("_groups", 1), ("_query_groups", None))
        )
        heads = self.counts(kind, get("att_heads", 16), groups, query_groups)
        prefix = f"memory_attention.model.{prefix}"
        return self.attention("memory_attention", prefix, x, y, heads, False, False, rotate_keys, False)

    def memory_norm(self, x: Tensor, prefix: str) -> Tensor:
        get, prefix = self.field("memory_attention"), f"memory_attention.model.{prefix}"
        kind, (slots, dim) = get("norm_type", "classic-rms"), x.shape
        if kind == "classic-rms":
            return self.rms_norm(x, prefix)
        if kind == "positional":
            g = self(f"{prefix}.gate", slots, 1).sigmoid()
            scale = self(f"{prefix}.scale", *((dim,) if get("norm_per_dim_scale", False) else (slots, 1)))
            normed = x / (self(f"{prefix}.ema_rms", slots, 1) + 1e-6).sqrt()
        else:
            g, scale = self(f"{prefix}.gate", 1).sigmoid(), self(f"{prefix}.scale", dim)
            if kind == "layer":
                centred = x - x.mean(-1, keepdim=True)
                normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
            else:
                assert kind in ("rms", "adaptive")
                normed = x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 1e-6).sqrt()
        return g * normed * scale + (1 - g) * x

    def gate(self, old: Tensor, new: Tensor, prefix: str) -> Tensor:
        get, prefix = self.field("memory_attention"), f"memory_attention.model.{prefix}"
        if not get("use_gated_residual", True):
            return old + new
        kind, per_slot = get("residual_gate_type", "elementwise"), get("residual_per_slot_gate", True)
        linear_status = get("residual_gate_slot_status_type", "mean") == "linear"
        (slots, dim), z = old.shape, old + new
        if linear_status and kind != "static":
            s = z @ self(f"{prefix}.slot_status.weight", 1, dim).T + self(f"{prefix}.slot_status.bias", 1)
        else:
            s = z.mean(-1, keepdim=True)
        if kind == "linear":
            out = slots if per_slot else 1
            s = s.T @ self(f"{prefix}.gate.weight", out, slots).T + self(f"{prefix}.gate.bias", out)
            score = s.T
        else:
            weight = self(f"{prefix}.gate", *((slots, 1) if per_slot else (1,)))
            if not per_slot and not linear_status:
                s = s.mean()
            score = weight if kind == "static" else weight * s
        if get("use_tanh_residual_gate", True):
            g = score.tanh()
            return (1 + g) * new + (1 - g) * old
        g = score.sigmoid()
        return g * new + (1 - g) * old

    # --- small parts --------------------------------------------------------------------------------------------------

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return a tensor of the file, made up if it is not there."""
        if name not in self.tensors:
            noise = torch.randn(shape, generator=self.random, dtype=torch.float64)
            if name.endswith("ema_rms"):
                noise = 0.5 + noise.abs()
            elif "norm" in name and name.endswith(("weight", "scale")):
                noise = 1 + 0.3 * noise
            elif len(shape) > 1 and "embedding" not in name and not name.endswith(".gate"):
                noise = 1.5 * noise / shape[-1] ** 0.5
            self.tensors[name] = noise
        tensor = self.tensors[name].double()
        assert tensor.shape == shape, f"{name}: {tuple(tensor.shape)} in the file, {shape} by the page"
        return tensor

    def field(self, part: str):
        """Return a function that looks a field up, with the default of an absent one."""
        return lambda name, default: self.config[f"{part}_config"].get(name, default)

    def embed(self, ids: list[int]) -> Tensor:
        names = [f"{part}.model.embedding.weight" for part in ("encoder", "decoder")]
        present = [name for name in names if name in self.tensors]
        get = self.field("decoder")
        return self((present or names)[0], get("vocab_size", 20000), get("embed_dim", 512))[torch.tensor(ids)]

    def norm(self, x: Tensor, prefix: str, rms: bool) -> Tensor:
        if rms:
            return self.rms_norm(x, prefix)
        centred = x - x.mean(-1, keepdim=True)
        normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return normed * self(f"{prefix}.weight", x.shape[-1]) + self(f"{prefix}.bias", x.shape[-1])

    def rms_norm(self, x: Tensor, prefix: str) -> Tensor:
        normed = x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()
        return normed * self(f"{prefix}.weight", x.shape[-1])

    def head_counts(self, part: str, which: str) -> tuple[int, int]:
        get = self.field(part)
        groups, query_groups = get("att_groups", 1), get("att_query_groups", None)
        if which == "cross":
            groups = get("cross_att_groups", None) or groups
            query_groups = get("cross_att_query_groups", None) or query_groups
        return self.counts(get(f"{which}_att_type", "sqa"), get("att_heads", 16), groups, query_groups)

    @staticmethod
    def counts(kind: str, heads: int, groups: int, query_groups: int | None) -> tuple[int, int]:
        """Query and key/value heads."""
        queries = query_groups if kind == "sqa" else heads
        assert queries is not None
        return queries, {"mha": heads, "mqa": 1}.get(kind, groups)

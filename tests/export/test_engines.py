"""Engines: a decoder that ONNX Runtime computes answers and remembers as PyTorch's does, in any table of rows."""

import copy
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers import ARCHITECTURES, build
from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.export import engines, graphs
from rxlm.export.engines import cache_folder, use_engine
from rxlm.export.names import Engine
from rxlm.export.saving import export, open_exported
from rxlm.folders import MARKER
from rxlm.memory import MemoryState
from rxlm.memory.retained.state import RetainedState
from rxlm.rxt.checkpoint_files import CheckpointError
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.conversation_file import ConversationError
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.turn_engine import Opening, Query, TurnEngine
from rxlm.upcycling.loading import open_model
from rxlm.upcycling.model import upcycle

ROUNDED: tuple[Engine, ...] = ("onnx:int8", "onnx:int4")
GATED = ARCHITECTURES["reverse-gated-selfinterlayer-slotelementwise"]
KINDS = {
    "reverse-gated, with windows": GATED._replace(shared={**GATED.shared, "sliding_window": 3, "ff_bias": True}),
    **{
        name: ARCHITECTURES[name]
        for name in ("sqa-qknorm-interlayer-slotlinear", "mqa-moe-grouped-static", "gqa-biased-retained")
    },
}
"""Together: windows, norms, gates, biases, all head counts, experts, layers that read slots and others, both
memories."""


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, upcycled, its layers large enough to be rounded."""
    place = tmp_path_factory.mktemp("models")
    save_language_model("llama, wide", place / "llama")
    upcycle(place / "llama", memory_tokens=32, max_seq_len=64).save_pretrained(place / "model")
    return place / "model"


@pytest.fixture(scope="module")
def exports(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `rxlm export` writes for the engines that round, in folders of their names, and prints, in `printed`."""
    place = tmp_path_factory.mktemp("exports")
    with redirect_stdout(StringIO()) as printed:
        for engine in ROUNDED:
            assert main(["export", str(folder), str(place / engine), "--engine", engine]) == 0
    (place / "printed").write_text(printed.getvalue())
    return place


def opened(folder: Path, engine: Engine, exports: Path) -> RxTAlpha:
    """Return the model with an engine: of 8 bits with graphs of its own, of 4 bits with those of the export."""
    model = open_model(folder)
    use_engine(model, engine, exports / engine if engine == "onnx:int4" else None)
    return model


def ids_of(model: RxTAlpha, rows: int, tokens: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(8, model.decoder.config.vocab_size, (rows, tokens), generator=generator)


def query(ids: Tensor, longest: int) -> Query:
    return Query(ids[0].tolist(), Opening(), GREEDY, max_answer_tokens=longest)


def all_of(memory: MemoryState) -> Tensor:
    return torch.cat([each.double().flatten() for each in memory.tensors().values()])


def assert_alike(found: MemoryState, expected: MemoryState) -> None:
    """Compare memories by the size of what they hold, which grows with some gates, and rounding with it.

    Between tokens that score alike, as equal ones do in the first layer, rounding decides which is kept: what both keep
    in a place is compared, and that is most of it.
    """
    if isinstance(found, RetainedState) and isinstance(expected, RetainedState):
        same = found.positions == expected.positions
        assert same.float().mean() > 0.9
        for name in ("keys", "values", "scores"):
            one, other = getattr(found, name)[same], getattr(expected, name)[same]
            torch.testing.assert_close(one, other, atol=2e-5 * max(1.0, float(other.abs().max())), rtol=1e-3)
        assert torch.equal(found.ids[same], expected.ids[same])
        assert torch.equal(found.unread, expected.unread)
        return
    largest = all_of(expected).abs().max().item()
    torch.testing.assert_close(all_of(found), all_of(expected), atol=2e-5 * max(1.0, largest), rtol=1e-3)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_layers_of_every_kind_of_decoder_and_memory_are_computed_as_by_pytorch(name: str, tmp_path: Path) -> None:
    """Turns one after the other, rows that join others midway, turns that are written from their tokens alone."""
    model, other = (build(KINDS[name]).float() for _ in range(2))
    other.load_state_dict(model.state_dict())
    use_engine(other, "onnx", tmp_path)
    memories = [each.init_memory(3, seed=0) for each in (model, other)]
    torch.testing.assert_close(all_of(memories[1]), all_of(memories[0]), atol=1e-5, rtol=1e-4)
    for turn in range(3):
        answers, after = [], []
        for each, memory in zip((model, other), memories, strict=True):
            engine = TurnEngine(each, 3)
            asked = [query(ids_of(each, 1, 4 + row, seed=turn * 3 + row), 5 + row) for row in range(3)]
            turns = [engine.prepare(each) for each in asked]
            engine.begin(turns[:2], memory.select([0, 1]))
            engine.step()
            engine.begin(turns[2:], memory.select(2))
            for _ in engine.run():
                pass
            after.append(engine.finish(turns, memory))
            answers.append([turn.answer for turn in turns])
        assert answers[1] == answers[0]
        assert_alike(after[1], after[0])
        after = [after[0]] * 2  # rounding would grow with slots, or decide between equal tokens
        read = ids_of(model, 3, 9, seed=90 + turn)
        memories = [each.update_memory(memory, read) for each, memory in zip((model, other), after, strict=True)]
        assert_alike(memories[1], memories[0])
        memories = [memories[0]] * 2
        logits = [each.decode(read, memory) for each, memory in zip((model, other), memories, strict=True)]
        torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["gqa-window-self-elementwise", "mha-simple-content"])
@torch.no_grad()
def test_turns_with_and_without_padding_are_encoded_and_written_as_by_pytorch(name: str, tmp_path: Path) -> None:
    """A row without a token keeps its memory."""
    model, other = (build(name).float() for _ in range(2))
    other.load_state_dict(model.state_dict())
    graphs.write_update_graphs(other, tmp_path)
    graphs.use_update_graphs(other, tmp_path)
    ids, memory = ids_of(model, 3, 9), model.init_memory(3, seed=0)
    lengths = torch.tensor([9, 0, 4])
    for mask in (torch.arange(9) < lengths[:, None], None):
        found, expected = (each.encode(ids, mask) for each in (other, model))
        seen = slice(None) if mask is None else mask
        torch.testing.assert_close(found[:, seen], expected[:, seen], atol=1e-5, rtol=1e-4)
        after = [each.update_memory(memory, ids, mask) for each in (other, model)]
        assert_alike(*after)
        memory = after[1]


@pytest.mark.parametrize("engine", ROUNDED)
def test_rounded_weights_answer_almost_alike_and_write_what_they_read(
    engine: Engine, folder: Path, exports: Path
) -> None:
    """The memory after an answer is the one after its tokens were read at once: rows do not change each other."""
    model, rounded = open_model(folder), opened(folder, engine, exports)
    ids = ids_of(model, 2, 20)
    with torch.no_grad():
        exact, found = (each.decode(ids, each.init_memory(2)).softmax(-1) for each in (model, rounded))
    off = (exact - found).abs().sum(-1).mean().item()
    bound = {"onnx:int8": 0.05, "onnx:int4": 0.5}[engine]
    assert 1e-5 < off < bound  # they are rounded at all
    turns = TurnEngine(rounded, 1)
    memory = rounded.init_memory()
    turn = turns.prepare(query(ids[:, :8], 6))
    turns.begin([turn], memory)
    for _ in turns.run():
        pass
    written = turns.finish([turn], memory)
    read = rounded.update_memory(memory, torch.tensor([turn.ids]))
    torch.testing.assert_close(all_of(read), all_of(written), atol=0.02, rtol=0.02)


def test_an_exported_model_needs_no_other_weights_and_answers_as_the_engine_does(folder: Path, exports: Path) -> None:
    for engine in ROUNDED:
        saved = open_exported(exports / engine)
        direct = opened(folder, engine, exports)
        texts = []
        for each in (saved, direct):
            conversation = Conversation(each, sampling=GREEDY, seed=0)
            texts.append([[*conversation.send(text, max_seq_len=40)] for text in ("My dog is called Rex.", "And so?")])
            assert each.engine == engine
        assert texts[0] == texts[1]
        assert open_model(exports / engine, engine=engine).engine == engine
        with pytest.raises(ConfigError, match=f"dtype must be auto or float32 for the engine {engine}, got 'bfloat16'"):
            open_model(exports / engine, dtype="bfloat16")
    assert max(each.stat().st_size for each in (exports / "onnx:int4").iterdir()) < 2_000_000
    assert "decoder.layers" not in (exports / "onnx:int4" / "model.safetensors").read_bytes()[:4000].decode("latin1")


def test_a_conversation_goes_on_with_the_same_bits_alone(folder: Path, exports: Path, tmp_path: Path) -> None:
    conversation = Conversation(opened(folder, "onnx:int4", exports), sampling=GREEDY)
    "".join(conversation.send("My dog is called Rex.", max_seq_len=30))
    conversation.save(tmp_path / "talk")
    Conversation(opened(folder, "onnx:int4", exports)).load(tmp_path / "talk")
    for engine in ("torch", "onnx:int8"):
        with pytest.raises(ConversationError, match=f"engine is 'onnx:int4' there and '{engine}' here"):
            Conversation(opened(folder, engine, exports)).load(tmp_path / "talk")
    elsewhere = opened(folder, "onnx:int4", exports)
    assert elsewhere.rounded_digest is not None
    elsewhere.rounded_digest = elsewhere.rounded_digest[::-1]
    with pytest.raises(ConversationError, match="weights of 4 bits were rounded otherwise"):
        Conversation(elsewhere).load(tmp_path / "talk")


def test_graphs_are_written_once_for_the_same_weights(
    folder: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = cache_folder(graphs.Graphs.for_model(open_model(folder), 8)) / graphs.NOTE
    model = opened(folder, "onnx:int8", exports)
    assert model.source_digest == json.loads(note.read_text())["weights"]
    written = note.stat().st_mtime_ns
    opened(folder, "onnx:int8", exports)
    assert note.stat().st_mtime_ns == written
    monkeypatch.setattr(graphs, "FORM", graphs.FORM + 1)
    note.write_text(json.dumps({**json.loads(note.read_text()), "form": graphs.FORM - 1}))
    assert graphs.Graphs.of(note.parent) is None


def test_what_cannot_be_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder)
    with pytest.raises(ConfigError, match="engine must be one of torch, onnx, onnx:int8, onnx:int4, got"):
        use_engine(model, "onnx:int2")  # type: ignore[arg-type]
    use_engine(model, "onnx:int8")
    with pytest.raises(ConfigError, match="has the engine onnx:int8 already"):
        use_engine(model, "onnx:int4")
    with pytest.raises(ConfigError, match="open its own weights for torch"):
        use_engine(model, "torch")
    with pytest.raises(ConfigError, match="engine onnx:int8, which has no weights to save"):
        model.save_pretrained(tmp_path / "out")
    with pytest.raises(ConfigError, match="export it as it was trained"):
        export(model, tmp_path / "out", "onnx:int4")
    with pytest.raises(ConfigError, match="got 'torch': others need no export"):
        export(open_model(folder), tmp_path / "out", "torch")
    experts = build("moe-encoder-reads-memory-linear").float()
    with pytest.raises(ConfigError, match="Experts that are not gated by silu"):
        use_engine(experts, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_files_of_a_model_stay_where_graphs_would_take_their_place(folder: Path, exports: Path) -> None:
    files = {path: path.read_bytes() for place in (folder, exports / "onnx:int4") for path in place.iterdir()}
    for place in (folder, exports / "onnx:int4"):
        with pytest.raises(ConfigError, match=r"folder must be new, empty or of graphs alone, and .* has c"):
            use_engine(open_model(folder), "onnx", place)
        with pytest.raises(ValueError, match="exists and is not an empty folder"):
            export(open_model(folder), place, "onnx:int8")
    assert {path: path.read_bytes() for path in files} == files


def test_the_same_weights_in_another_configuration_have_graphs_of_their_own(folder: Path) -> None:
    plain = open_model(folder)
    values = plain.config_dict()
    same, other = (
        RxTAlpha.from_config_dict(each)
        for each in (values, {**values, "decoder_config": {**values["decoder_config"], "norm_eps": 0.1}})
    )
    for model in (same, other):
        model.load_state_dict(plain.state_dict())
    of_8 = [cache_folder(graphs.Graphs.for_model(each, 8)) for each in (plain, same, other)]
    assert of_8[0] == of_8[1] != of_8[2]
    of_4 = [cache_folder(graphs.Graphs.for_model(each, 4)) for each in (plain, same)]
    assert of_4[0] != of_4[1]  # a model without a tokenizer is rounded without having read text


@pytest.mark.parametrize("damaged", ["layers.onnx.data", "head.onnx", graphs.NOTE, MARKER])
def test_damaged_graphs_are_written_anew(
    folder: Path, exports: Path, damaged: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(model: RxTAlpha, place: Path, found: graphs.Graphs) -> None:
        written.append(place)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(exports / "onnx:int4", place)

    written: list[Path] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engines, "write_graphs", write)
    place = cache_folder(graphs.Graphs.for_model(open_model(folder), 4))
    for times in (1, 1):
        use_engine(open_model(folder), "onnx:int4")
        assert written == [place] * times
    (place / damaged).write_bytes(bytes(len((place / damaged).read_bytes())))
    for times in (2, 2):
        use_engine(open_model(folder), "onnx:int4")
        assert written == [place] * times


def test_threads_share_a_model(exports: Path) -> None:
    model = open_model(exports / "onnx:int8")

    def talk(number: int) -> list[str]:
        conversation = Conversation(model, sampling=GREEDY, seed=0)
        return ["".join(conversation.send(f"{number} and {turn}", max_seq_len=30)) for turn in range(3)]

    alone = [talk(number) for number in range(6)]
    with ThreadPoolExecutor(3) as threads:
        assert [*threads.map(talk, range(6))] == alone


def test_a_model_with_an_engine_is_not_copied(exports: Path) -> None:
    model = open_model(exports / "onnx:int8")
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled: open it again"):
            copied(model)


def test_onnx_runtime_keeps_no_record_of_what_it_runs(exports: Path) -> None:
    open_model(exports / "onnx:int8")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "Microsoft").exists()


def test_another_type_of_weights_is_refused_by_its_name(exports: Path) -> None:
    model = open_model(exports / "onnx:int8").double()
    with pytest.raises(ValueError, match=r"computes with float32, int64, and .* is torch\.float64"):
        "".join(Conversation(model).send("My dog is called Rex."))


def test_without_the_extra_the_package_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match="needs the package onnxscript: pip install 'reactive-lm\\[onnx\\]'"):
        use_engine(open_model(folder), "onnx:int4", tmp_path)


def test_a_damaged_export_is_refused(exports: Path, tmp_path: Path) -> None:
    shutil.copytree(exports / "onnx:int4", tmp_path / "out")
    with pytest.raises(CheckpointError, match="was exported for the engine onnx:int4: open it with"):
        RxTAlpha.from_pretrained(tmp_path / "out")
    with (tmp_path / "out" / graphs.HEAD).open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match=graphs.HEAD):
        open_model(tmp_path / "out")
    (tmp_path / "out" / graphs.NOTE).write_text("{}")
    with pytest.raises(CheckpointError, match="export the model again"):
        open_model(tmp_path / "out")


def test_graphs_of_another_model_are_refused(folder: Path, exports: Path, tmp_path: Path) -> None:
    save_language_model("llama", tmp_path / "llama")
    other = upcycle(tmp_path / "llama", memory_tokens=32, max_seq_len=64)
    export(other, tmp_path / "other", "onnx:int8")
    for name, first in ((graphs.LAYERS, "x"), (graphs.HEAD, "hidden")):
        place = tmp_path / name
        shutil.copytree(exports / "onnx:int8", place)
        (place / MARKER).unlink()
        for file in (name, f"{name}.data"):
            shutil.copy(tmp_path / "other" / file, place / file)
        with pytest.raises(ValueError, match=f"{name} is the graph of another model: {first} is 48 numbers wide"):
            open_model(place)


def test_turns_shorter_than_the_texts_that_rounding_reads_are_no_hindrance(folder: Path, tmp_path: Path) -> None:
    model = upcycle(folder.parent / "llama", memory_tokens=32, max_seq_len=16)
    export(model, tmp_path / "out", "onnx:int4")
    exported = open_model(tmp_path / "out")
    assert (exported.engine, exported.max_seq_len) == ("onnx:int4", 16)
    answered = "".join(Conversation(exported, sampling=GREEDY).send("Hi"))
    assert isinstance(answered, str)


def test_the_commands(folder: Path, exports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ROUNDED:
        assert f"MB for the engine {engine}" in (exports / "printed").read_text()
    assert main(["info", str(exports / "onnx:int8")]) == 0
    assert "weights of 8 bits" in capsys.readouterr().out
    assert main(["info", str(folder)]) == 0
    assert "weights of float32" in capsys.readouterr().out
    assert main(["chat", str(exports / "onnx:int8"), "--engine", "onnx:int4"]) != 0
    assert "has the engine onnx:int8 already" in capsys.readouterr().err

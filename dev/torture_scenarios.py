"""What `dev/torture.py` kills: saves over each other, trainings, and whole runs."""

import itertools
import os
import socket
import tempfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from rxlm.data.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from rxlm.folders import finish, saving
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM
from rxlm.memory import MemoryState
from rxlm.recipes import open_run, tiny
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.conversation_file import SavedConversation
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed
from rxlm.training.checkpoint import Checkpoints
from rxlm.training.distributed import Parallel
from small_recipes import quick
from text_models import tiny_text_model
from training_runs import batches, tokenizer, trainer


class FaultError(Exception):
    """What must not be found after a kill."""

    KINDS: ClassVar[tuple[str, ...]] = ("unloadable", "mixed", "lost", "stuck")

    def __init__(self, kind: str, message: object) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Scenario:
    """Work that is killed, and what must be true afterwards.

    Fields:
        share: of all kills. processes: that work together. seconds: until it is killed, at the latest.
        aimed: share of kills that wait for a save. renewed: how often the next work begins in an empty folder.
        ends: whether the work has an end, which must be that of work that is not killed.
    """

    name = ""
    share, processes, seconds, aimed, renewed = 1.0, 1, 1.0, 0.5, 0.2
    ends = False
    failed: str | None = None
    """What the work raised before it was killed."""

    def work(self, path: Path, rank: int) -> None:
        """Work until the end, or until it is killed."""
        raise NotImplementedError

    def check(self, path: Path, has_ended: bool) -> None:
        """Raise `FaultError` where something is lost, or the work does not go on."""
        raise NotImplementedError

    def renew(self) -> None:
        """Forget what was found: the next work begins anew."""

    def _check_failed(self) -> None:
        failed, self.failed = self.failed, None
        if failed is not None:
            raise FaultError("stuck", failed)


class Saves(Scenario):
    """Two values are saved in turn, each over the other.

    Args:
        saves: what saves each value to a path. load: reads a path and returns what tells all parts of a value.
        main: the file without which nothing is there.
    """

    def __init__(
        self,
        name: str,
        saves: Sequence[Callable[[Path], Any]],
        load: Callable[[Path], Hashable],
        main: str = ".",
        share: float = 1.0,
    ) -> None:
        self.name, self.saves, self.load, self.main, self.share = name, saves, load, main, share
        self.had_one = False
        self.values = []
        with tempfile.TemporaryDirectory() as folder:
            for number, save in enumerate(saves):
                save(Path(folder) / str(number))
                self.values.append(load(Path(folder) / str(number)))
        assert self.values[0] != self.values[1]

    def work(self, path: Path, rank: int) -> None:
        path.mkdir(exist_ok=True)
        parent = os.getppid()
        for save in itertools.cycle(self.saves):
            save(path / "saved")
            if os.getppid() != parent:  # which was killed itself
                return

    def check(self, path: Path, has_ended: bool) -> None:
        self._check_failed()
        if path.is_dir():
            self._check_value(path / "saved")
            self._check_next(path / "saved")

    def _check_value(self, path: Path) -> None:
        finish(path)
        if not (path / self.main).exists():
            if self.had_one:
                raise FaultError("lost", list(path.iterdir()) if path.exists() else path)
            return
        try:
            value = self.load(path)
        except Exception as error:
            raise FaultError("unloadable", repr(error)) from error
        if value not in self.values:
            raise FaultError("mixed", path)

    def _check_next(self, path: Path) -> None:
        try:
            self.saves[1](path)
            assert self.load(path) == self.values[1]
        except Exception as error:
            raise FaultError("stuck", repr(error)) from error
        left = list(path.parent.rglob(".*"))
        if left:
            raise FaultError("stuck", f"{left} stay for ever")
        self.had_one = True

    def renew(self) -> None:
        self.had_one = False


class Training(Scenario):
    """A stage that is trained with a checkpoint a step; its end must be that of a run that was not killed."""

    share, seconds, aimed, renewed, ends, steps = 1.5, 4.0, 0.7, 0.0, True, 24

    def __init__(self, processes: int, parallel: Parallel = "ddp") -> None:
        self.processes, self.parallel = processes, parallel
        self.name = f"training-{processes}" + (f"-{parallel}" if parallel != "ddp" else "")
        self.last = -1
        self.straight: dict[str, torch.Tensor] | None = None
        self.port = _free_port()

    def work(self, path: Path, rank: int) -> None:
        if self.processes > 1:
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port)}
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(self.processes), **address}
            distributed.start()
        run = trainer("streams", path, steps=self.steps, checkpoint_every=1, keep_last=1, parallel=self.parallel)
        run.batches = batches("streams", rank=rank, world_size=self.processes)
        run.run()

    def check(self, path: Path, has_ended: bool) -> None:
        self.port = _free_port()
        if self.processes == 1 or has_ended:  # of two, the other one fails because the first is gone
            self._check_failed()
        self.failed = None
        checkpoints = Checkpoints(path / "checkpoints")
        try:
            step = checkpoints.newest_whole()
        except ValueError as error:
            raise FaultError("unloadable", error) from error
        if (-1 if step is None else step) < self.last:
            raise FaultError("lost", f"step {self.last}; the newest is {step}")
        self.last = -1 if step is None else step
        if has_ended:
            self._check_end(checkpoints)

    def _check_end(self, checkpoints: Checkpoints) -> None:
        end = trainer("streams", checkpoints.folder.parent).module
        checkpoints.load(self.steps, end)
        weights = {name: tensor.clone() for name, tensor in end.state_dict().items()}
        self.straight = self.straight or weights
        if [name for name in weights if not torch.equal(weights[name], self.straight[name])]:
            raise FaultError("mixed", "the run that was killed ended elsewhere")

    def renew(self) -> None:
        self.last = -1
        self.port = _free_port()


class Run(Scenario):
    """A whole run of a small recipe, from the tokenizer to the finished model."""

    name, share, seconds, aimed, renewed, ends = "run", 0.7, 20.0, 0.8, 0.0, True

    def __init__(self) -> None:
        self.recipe = quick(tiny())
        self.straight: tuple[Hashable, ...] | None = None

    def work(self, path: Path, rank: int) -> None:
        open_run(self.recipe, path).train()

    def check(self, path: Path, has_ended: bool) -> None:
        self._check_failed()
        if not has_ended:
            return  # the next work shows whether it goes on
        try:
            found = _model(path)
        except Exception as error:
            raise FaultError("unloadable", repr(error)) from error
        self.straight = self.straight or found
        if found != self.straight:
            raise FaultError("mixed", "the run that was killed ended elsewhere")


def scenarios() -> list[Scenario]:
    """Return all."""
    models = [tiny_text_model(), _other_model()]
    memories = [model.init_memory(2, seed=1) for model in models]
    tokenizers = [model.needed_tokenizer() for model in models]
    return [
        Saves("model", [model.save_pretrained for model in models], _model, "config.json", 2.0),
        Saves("language model", _language_models(), _language_model, "config.json"),
        Saves("tokenizer", [_saves_tokenizer(each) for each in tokenizers], _tokenizer, "tokenizer.json"),
        Saves("conversation", _conversations(models[0]), lambda path: _conversation(models[0], path)),
        Saves("memory", [memory.save for memory in memories], lambda path: _tensors(MemoryState.load(path).tensors())),
        Training(1),
        Training(2),
        Training(2, "fsdp"),
        Run(),
    ]


def _other_model() -> RxTAlpha:
    made = tiny_text_model(num_layers=3, seed=1)
    made.set_tokenizer(train_tokenizer(["Entirely other words are in this one."] * 3, 290))
    return made


def _saves_tokenizer(made: Any) -> Callable[[Path], None]:
    return lambda path: save_tokenizer(made, path)


def _language_models() -> list[Callable[[Path], None]]:
    def save_with(layers: int) -> Callable[[Path], None]:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": layers}
        made = DecoderLMForCausalLM(DecoderLMConfig(vocab_size=len(tokenizer()), **sizes))

        def save(path: Path) -> None:
            with saving(path) as draft:
                tokenizer().save_pretrained(draft)
                made.save_pretrained(draft)

        return save

    return [save_with(1), save_with(2)]


def _conversations(model: RxTAlpha) -> list[Callable[[Path], None]]:
    saved = []
    with tempfile.TemporaryDirectory() as folder:
        for turns in (1, 3):
            talk = Conversation(model, seed=turns)
            for number in range(turns):
                list(talk.send(f"You are {number}.", max_seq_len=24))
            talk.save(Path(folder) / "talk")
            saved.append(SavedConversation.read(Path(folder) / "talk"))
    return [each.write for each in saved]


def _tensors(tensors: dict[str, torch.Tensor]) -> Hashable:
    return tuple((name, tuple(each.shape), each.contiguous().numpy().tobytes()) for name, each in tensors.items())


def _tokenizer(path: Path) -> Hashable:
    return tuple(sorted(load_tokenizer(path).get_vocab().items()))


def _model(path: Path) -> tuple[Hashable, ...]:
    model = RxTAlpha.from_pretrained(path)
    vocabulary = tuple(sorted(model.needed_tokenizer().get_vocab().items()))
    return str(model.config_dict()), _tensors(model.state_dict()), vocabulary


def _language_model(path: Path) -> Hashable:
    model = DecoderLMForCausalLM.from_pretrained(path)
    return model.config.num_hidden_layers, _tensors(model.state_dict()), _tokenizer(path)


def _conversation(model: RxTAlpha, path: Path) -> Hashable:
    talk = Conversation(model)
    talk.load(path)
    return tuple((turn.query, turn.answer) for turn in talk.turns), _tensors(talk.memory.tensors())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

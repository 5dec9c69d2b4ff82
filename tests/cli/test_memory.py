"""`rxlm memory` and `rxlm feedback export`."""

import json

import pytest

from rxlm.cli import main
from rxlm.rxt.conversation import Conversation
from rxlm.serving.keys import new_id, root_keys
from rxlm.serving.store.records import Feedback, Node
from rxlm.serving.store.sqlite import SQLiteBackend
from rxlm.serving.store.store import Store
from rxlm.serving.store.tenants import Tenants
from text_models import tiny_retained_model


@pytest.fixture
def saved(tmp_path):
    model = tiny_retained_model()
    model.save_pretrained(tmp_path / "model")
    conversation = Conversation(model, seed=0)
    for number, text in enumerate(["My dog is called Rex.", "You are kind."]):
        list(conversation.send(text))
        conversation.save(tmp_path / f"{number}.rxt")
    conversation.memory.save(tmp_path / "memory.safetensors")
    return tmp_path


def test_a_saved_memory_is_shown(saved, capsys):
    assert main(["memory", "show", str(saved / "1.rxt"), "--model", str(saved / "model")]) == 0
    shown = capsys.readouterr().out
    assert "tokens were said" in shown
    assert "You are kind" in shown
    assert main(["memory", "show", str(saved / "memory.safetensors")]) == 0
    assert main(["memory", "diff", str(saved / "0.rxt"), str(saved / "1.rxt")]) == 0
    assert "changed" in capsys.readouterr().out


def test_other_files_are_refused(saved, capsys):
    (saved / "notes").write_text("notes")
    for name in ("notes", "nothing", "model/model.safetensors"):
        assert main(["memory", "show", str(saved / name)]) != 0
        assert name in capsys.readouterr().err


def test_feedback_becomes_preference_records(tmp_path, capsys):
    backend = SQLiteBackend(tmp_path / "s.sqlite")
    store, tenant = Store(backend), Tenants(backend).named("default")
    keys = root_keys("m", tenant.salt, "Be kind.", 0, None)
    root = Node("root_x", "default", 1.0, "root", None, "root_x", 0, *keys, query="Be kind.", has_instructions=True)
    store.add(root)
    nodes = []
    for parent, query, answer in ((root, "Hi!", "Hello."), (None, "Who?", "Rex."), (None, "Who?", "Nobody.")):
        parent = parent or nodes[0]
        node = Node(
            new_id("resp"), "default", 2.0 + len(nodes), "turn", parent.id, "root_x", parent.depth + 1, *keys,
            query=query, answer=answer,
        )  # fmt: skip
        store.add(node)
        nodes.append(node)
    for number, values in enumerate(({"rating": "up"}, {"edit": "Rex!"}, {"better_than": nodes[2].id})):
        store.add_feedback(Feedback(new_id("fb"), "default", 9.0 + number, nodes[1].id, **values))
    backend.close()
    assert main(["feedback", "export", str(tmp_path / "s.sqlite"), "--output", str(tmp_path / "p.jsonl")]) == 0
    assert "3 records (2 pairs, 1 rated" in capsys.readouterr().out
    rated, edited, compared = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert [message["content"] for message in rated["prompt"]] == ["Be kind.", "Hi!", "Hello.", "Who?"]
    assert (rated["completion"][0]["content"], rated["label"]) == ("Rex.", True)
    assert [edited[side][0]["content"] for side in ("chosen", "rejected")] == ["Rex!", "Rex."]
    assert [compared[side][0]["content"] for side in ("chosen", "rejected")] == ["Rex.", "Nobody."]
    assert main(["feedback", "export", str(tmp_path / "none.sqlite")]) != 0
    assert "none.sqlite" in capsys.readouterr().err

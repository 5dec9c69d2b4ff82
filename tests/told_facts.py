"""Reads generated dialogues as a person would: which facts they have told, and which they hold together."""

from rxlm.data.fact_kinds import fact_kinds


def readings(variety):
    """All that can be said, by role: what tells a fact, what updates one, and what asks for one."""
    return {role: _readings(variety, role) for role in ("tell", "update", "ask")}


def _readings(variety, role):
    """All that can be said in one role, with what it means: {(query, answer): {(kind, value, old value)}}."""
    found = {}
    for kind in fact_kinds(variety):
        for wording in getattr(kind, role):
            for value in kind.values:
                olds = kind.values if "{o}" in wording.query or "{b}" in wording.query else ("",)
                for old in olds:
                    found.setdefault(wording.fill(value, old), set()).add((kind.name, value))
    return found


def told_facts(dialogue, readings_of):
    """Read a dialogue as a person would: after each turn, {kind: (value, turn it was told)}, and what was told."""
    facts, history = {}, []
    for number, turn in enumerate(dialogue.turns):
        said = (turn.query, turn.answer)
        if turn.question is None:
            for role in ("tell", "update"):
                for kind, value in readings_of[role].get(said, ()):
                    assert (kind in facts) == (role == "update"), said
                    facts[kind] = (value, number)
        history.append(dict(facts))
    return history


def pairs_held(dialogue, readings_of):
    """The pairs of facts that a dialogue holds at some time."""
    pairs = set()
    for facts in told_facts(dialogue, readings_of):
        held = sorted((kind, value) for kind, (value, _) in facts.items())
        pairs |= {(first, second) for number, first in enumerate(held) for second in held[number + 1 :]}
    return pairs

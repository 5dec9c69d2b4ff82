"""Ways to damage a file: its bytes, or the values of the JSON in it."""

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 10**6, 10**9, 10**30, 1e308, -0.5, float("nan"), float("inf"), "", " ", "x",
    "\ud800", "\x00\x1b[2J", "a" * 3000, [], [None], [[]], {}, {"a": 1}, ["a", "b"], [1, 2], "null", "[1, 2]",
)  # fmt: skip
WORDS = (b"\x00", b"\xff", b"\n", b'"', b"{", b"[", b"}", b",", b"\xed\xa0\x80", b"9" * 40, b"[" * 3000, b"1e999")


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to three changes: cut, flipped, taken out, doubled, overwritten or put in."""
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 64, 500))
        data = rng.choice(
            (
                lambda data, a, b: data[:a],
                lambda data, a, b: (
                    data[:a] + bytes(byte ^ (1 << rng.randrange(8)) for byte in data[a : a + 1]) + data[a + 1 :]
                ),
                lambda data, a, b: data[:a] + data[a + b :],
                lambda data, a, b: data[: a + b] + data[a:],
                lambda data, a, b: data[:a] + rng.randbytes(len(data[a : a + b])) + data[a + b :],
                lambda data, a, b: data[:a] + rng.choice(WORDS) + data[a:],
            )
        )(data, place, length)
    return data


def damaged_values(values: Any, rng: random.Random) -> Any:
    """Return plain values in which one to three parts are others, are missing, have another name, or lie deeper."""
    values = json.loads(json.dumps(values))
    for _ in range(rng.randint(1, 3)):
        places = list(_places(values))
        if not places:
            return copy.deepcopy(rng.choice(ODD))
        parent, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.7:
            parent[key] = copy.deepcopy(rng.choice(ODD))
        elif kind < 0.8:
            del parent[key]
        elif kind < 0.9 and isinstance(parent, dict):
            parent[f"{key}_"] = parent.pop(key)
        else:
            parent[key] = (
                rng.choice(([parent[key]], {key: parent[key]}, [copy.deepcopy(parent[key]) for _ in range(3)]))
                if key != ""
                else None
            )
    return values


def damaged_json(text: str, rng: random.Random) -> bytes:
    """Return a JSON text with other bytes or other values."""
    if rng.random() < 0.3:
        return damaged_bytes(text.encode(), rng)
    return json.dumps(damaged_values(json.loads(text), rng)).encode()


def damaged_lines(lines: list[Any], rng: random.Random) -> bytes:
    """Return JSON lines of which some are damaged."""
    number = rng.randrange(len(lines))
    rest = [json.dumps(line) for line in lines]
    rest[number] = damaged_json(rest[number], rng).decode(errors="surrogateescape")
    return "\n".join(rest).encode(errors="surrogateescape")


def damaged_tensors(data: bytes, rng: random.Random) -> bytes:
    """Damage the header of a safetensors file, its values, or anything."""
    header, values = _parts(data)
    if rng.random() < 0.4:
        return _joined(damaged_json(header.decode(), rng), values)
    if rng.random() < 0.5:  # the last byte of a float32 has most of its exponent
        place = rng.randrange(len(values))
        piece = rng.choice((b"\xff\xff", b"\x7f\x80", rng.randbytes(4)))
        return _joined(header, values[:place] + piece + values[place + len(piece) :])
    return damaged_bytes(data, rng)


def damaged_record(data: bytes, name: str, rng: random.Random) -> bytes:
    """Damage the JSON text of this name in the metadata of a safetensors file."""
    header, values = _parts(data)
    parts = json.loads(header)
    parts["__metadata__"][name] = damaged_json(parts["__metadata__"][name], rng).decode(errors="replace")
    return _joined(json.dumps(parts).encode(), values)


def without_digest(data: bytes) -> bytes:
    """Return a safetensors file without the digest of what it holds, so that damage is not found by that."""
    header, values = _parts(data)
    parts = json.loads(header)
    del parts["__metadata__"]["digest"]
    return _joined(json.dumps(parts).encode(), values)


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """Split a safetensors file into its header, JSON after its length, and values."""
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end], data[end:]


def _joined(header: bytes, values: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + values


def _places(values: Any) -> Any:
    parts = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(parts):
        yield values, key
        yield from _places(value)

"""Damage to bytes: what goes wrong on disks and wires, and what attackers write."""

from __future__ import annotations

EDGES = [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]


def mutated(rng, seeds):
    """One of the seeds with up to eight faults, or none."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 8])):
        data = rng.choice(FAULTS)(rng, data, seeds)
    return bytes(data)


def _place(rng, data):
    """A position; every second one in the first hundred bytes, where headers are."""
    return rng.randrange(min(len(data), 100) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(rng, data, _):
    if data:
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _set(rng, data, _):
    if data:
        data[_place(rng, data)] = rng.choice([0, 0xFF, 0x80, rng.randrange(256)])
    return data


def _edge(rng, data, _):
    size = rng.choice([2, 4])
    at = _place(rng, data)
    number = rng.choice(EDGES) & (256**size - 1)
    data[at : at + size] = number.to_bytes(size, rng.choice(["little", "big"]))
    return data


def _cut(rng, data, _):
    at = _place(rng, data)
    del data[at : at + rng.choice([1, 2, 8, 50])]
    return data


def _truncate(rng, data, _):
    return data[: _place(rng, data)]


def _repeat(rng, data, _):
    at, size = _place(rng, data), rng.choice([1, 2, 8, 50, 500])
    data[at:at] = data[at : at + size] * rng.choice([1, 1, 2, 100])
    return data


def _insert(rng, data, _):
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.choice([1, 2, 8]))
    return data


def _splice(rng, data, seeds):
    other = rng.choice(seeds)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


FAULTS = [_flip, _flip, _set, _set, _edge, _cut, _truncate, _repeat, _insert, _splice]

"""Masks of 100 objects beside ultralytics' public functions and the torch definition.

Run: `pytest benches/test_masks.py --benchmark-only -s`. Objects are ellipses: 6 of the 32 prototypes are powers of x
and y, which conics consist of, the others noise with small coefficients. Asserted before anything is timed: every mask
overlaps the peer's by 0.99. The peer answers with pixels; run lengths are what `predict` and `val` ask for.
"""

import numpy as np
import pytest
import torch

import peers
from mamba_yolo.ops import decode_rle, instance_masks, instance_rles

NUMBER, SIDE = 100, 640
CASES = {
    "480 x 640 picture": (480, 640, 40, 200),
    "1080 x 1920 picture": (1080, 1920, 120, 600),
}


def some_objects(height, width, low, high):
    """Coefficients, prototypes, boxes in pixels of the picture, and its place in the network's input."""
    rng = torch.Generator().manual_seed(0)
    gain = SIDE / max(height, width)
    left, top = (SIDE - width * gain) / 2, (SIDE - height * gain) / 2
    sides = low + (high - low) * torch.rand(NUMBER, 2, generator=rng)
    corners = torch.rand(NUMBER, 2, generator=rng) * (torch.tensor([width, height]) - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    x, y = ((corners + sides / 2) * gain + torch.tensor([left, top])).T / SIDE
    a, b = (0.4 * sides * gain / SIDE).T
    powers = [1 - (x / a) ** 2 - (y / b) ** 2, 2 * x / a**2, 2 * y / b**2, -1 / a**2, -1 / b**2, torch.zeros(NUMBER)]
    coefs = torch.cat([torch.stack(powers, 1), torch.randn(NUMBER, 26, generator=rng) * 1e-3], dim=1)
    v, u = torch.meshgrid(*[(torch.arange(SIDE // 4) + 0.5) * 4 / SIDE] * 2, indexing="ij")
    conics = torch.stack([torch.ones_like(u), u, v, u * u, v * v, u * v])
    noise = torch.randn(26, SIDE // 4, SIDE // 4, generator=rng)
    return (coefs, torch.cat([conics, noise]), boxes), {"gain": gain, "left": left, "top": top}


def peer_masks(objects, placing, height, width):
    """The same by ultralytics, where it is installed: masks (n, height, width), bool."""
    if not peers.version("ultralytics"):
        return {}
    threads = torch.get_num_threads()
    ops = peers.ultralytics("utils.ops")
    torch.set_num_threads(threads)
    coefs, protos, boxes = objects
    shift = torch.tensor([placing["left"], placing["top"]] * 2)

    def at_network_size():
        masks = ops.process_mask(protos, coefs, boxes * placing["gain"] + shift, (SIDE, SIDE), upsample=True)
        return ops.scale_masks(masks[None].float(), (height, width))[0] > 0.5

    def native():
        return ops.process_mask_native(protos, coefs, boxes, (height, width)) > 0.5

    return {"process_mask_native": native} | ({"process_mask, scale_masks": at_network_size} if height < SIDE else {})


@pytest.mark.parametrize("case", CASES)
def test_100_objects(beside, case):
    height, width, *sides = CASES[case]
    objects, placing = some_objects(height, width, *sides)
    others = peer_masks(objects, placing, height, width)
    ours = lambda: instance_masks(*objects, height, width, **placing)  # noqa: E731
    rles = lambda: instance_rles(*objects, height, width, **placing)  # noqa: E731
    masks = ours().numpy() != 0
    assert masks.sum((1, 2)).min() > 300
    for mask, rle in zip(masks, rles(), strict=True):
        assert (decode_rle(rle).numpy() == mask).all()
    for name, peer in others.items():
        theirs = peer().numpy()
        overlap = (masks & theirs).sum((1, 2)) / (masks | theirs).sum((1, 2))
        assert overlap.min() >= 0.99, f"{name}: {np.sort(overlap)[:5]}"
    definition = {"definition": lambda: instance_masks(*objects, height, width, **placing, backend="reference")}
    beside(f"100 masks of a {case}, as pixels", ours, {**others, **definition}, rounds=3)
    if others:
        beside(f"100 masks of a {case}, as run lengths; peers: as pixels", rles, others, rounds=3)

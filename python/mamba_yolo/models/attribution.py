"""What a network looks at: effective receptive fields, responses of the scan's directions, gradient-weighted maps.

Receptive field: gradient of a centre feature by the pixels (Luo et al., arXiv 1701.04128). Class activation: feature
times gradient, cell by cell (HiResCAM, arXiv 2011.08891). Test: tests/models/test_attribution.py.

Legend: B batch, C channels, H W image or map, K = 4 directions, L = H * W tokens, D inner channels, N states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mamba_yolo.errors import ShapeError
from mamba_yolo.models.ss2d import NUM_DIRECTIONS
from mamba_yolo.ops import ss2d_scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mamba_yolo.models.ss2d import SS2D


def receptive_field(features: Tensor, images: Tensor) -> Tensor:
    """How much every pixel moves the centre cell of a map: |gradient| summed over colours, averaged over images.

    The cell is (h // 2, w // 2), its channels are summed. The graph is kept, so that several maps can be asked about.

    Args:
        features: (B, C, h, w), computed from `images`.
        images: (B, 3, H, W) with requires_grad.

    Returns:
        (H, W), not negative.
    """
    centre = features[:, :, features.shape[2] // 2, features.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(centre, images, retain_graph=True)
    return gradient.abs().sum(dim=1).mean(dim=0)


def side_holding(share: float, field: Tensor, centre: int) -> int:
    """Side in pixels of the smallest square around a pixel that holds a share of a receptive field.

    Args:
        share: in 0..1.
        field: (H, W) not negative, as from `receptive_field`.
        centre: row and column of the pixel.
    """
    wanted = share * float(field.sum())
    largest: int = max(*field.shape, centre)
    for half in range(largest):
        inside = slice(max(centre - half, 0), centre + half + 1)
        if float(field[inside, inside].sum()) >= wanted:
            return 2 * half + 1
    return 2 * largest + 1


@torch.no_grad()
def direction_responses(ss2d: SS2D, x: Tensor) -> Tensor:
    """Size of what the states of each direction give to every token: root mean square over channels, without the skip.

    The scan is linear in C and in the skip: with both zero elsewhere, its sum of four is the one direction.

    Args:
        ss2d: the block.
        x: (B, C, H, W), what the block gets.

    Returns:
        (B, 4, H, W): row-major, column-major, and both backwards.
    """
    (x_BLD, proj, dt_weight, dt_bias, A_logs, Ds, height, width), _ = ss2d.scan_arguments(x)
    num_states = A_logs.shape[1]
    proj_BLKP = proj.reshape(*proj.shape[:2], NUM_DIRECTIONS, -1)
    responses = []
    for k in range(NUM_DIRECTIONS):
        alone = torch.zeros_like(proj_BLKP)
        alone[..., :-num_states] = proj_BLKP[..., :-num_states]  # all of dt and B
        alone[:, :, k] = proj_BLKP[:, :, k]
        y_BLD = ss2d_scan(x_BLD, alone.flatten(2), dt_weight, dt_bias, A_logs, torch.zeros_like(Ds), height, width)
        responses.append(y_BLD.square().mean(dim=2).sqrt().reshape(-1, height, width))
    return torch.stack(responses, dim=1)


def class_activation(score: Tensor, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Where maps raise a score: feature times gradient, summed over channels, negative cells left out.

    Args:
        score: a scalar computed from `maps`.
        maps: (1, C, h, w) each, any sizes; their cells are spread over the pixels they stand for.
        size: (H, W) of the image.

    Returns:
        (H, W), not negative.
    """
    if score.ndim:
        raise ShapeError(f"score must be a scalar, got shape {tuple(score.shape)}; sum it")
    total = score.new_zeros(size)
    for features, gradient in zip(maps, torch.autograd.grad(score, list(maps), retain_graph=True), strict=True):
        raised = (features * gradient).sum(dim=1, keepdim=True).clamp(min=0).detach()
        pixels_per_cell = size[0] * size[1] / raised[0, 0].numel()
        total += functional.interpolate(raised, size, mode="bilinear", align_corners=False)[0, 0] / pixels_per_cell
    return total

"""Peers of gpu_acceptance.py: from x (B, L, D) and projection weights (K, R + 2N, D) to the merged scan (B, L, D)."""

from __future__ import annotations

import torch
from torch.nn import functional

from mamba_yolo.ops import ss2d_scan

K, N, CHUNK = 4, 16, 64
TILE = 1024


def ours(x, weight, dt_weight, dt_bias, A_logs, Ds, height, width):
    """One projection for all directions, then the fused scan."""
    return ss2d_scan(x, x @ weight.flatten(0, 1).T, dt_weight, dt_bias, A_logs, Ds, height, width)


def official_style(x, weight, dt_weight, dt_bias, A_logs, Ds, height, width, scan=None):
    """Tokens copied into four orders, two einsums, a scan of K D channels in mamba's layout, four orders undone."""
    batch, length, channels = x.shape
    rank = dt_weight.shape[2]
    rows = x.mT
    columns = rows.unflatten(2, (height, width)).mT.flatten(2)
    two = torch.stack([rows, columns], dim=1)
    xs = torch.cat([two, two.flip(-1)], dim=1)  # (B, K, D, L)
    dts, Bs, Cs = torch.einsum("bkdl,kcd->bkcl", xs, weight).split([rank, N, N], dim=2)
    delta = torch.einsum("bkrl,kdr->bkdl", dts, dt_weight.to(x.dtype))
    A, bias = -A_logs.float().exp(), dt_bias.flatten().float()
    ys = (scan or triton_scan)(xs.flatten(1, 2), delta.flatten(1, 2), A, Bs.contiguous(), Cs.contiguous(), Ds, bias)
    ys = ys.view(batch, K, channels, length)
    two = ys[:, :2] + ys[:, 2:].flip(-1)
    y = two[:, 0] + two[:, 1].unflatten(2, (width, height)).mT.flatten(2)
    return y.mT.contiguous()


def chunked(x, weight, dt_weight, dt_bias, A_logs, Ds, height, width):
    """Cumulative sums within chunks in plain torch, for torch.compile."""
    return official_style(x, weight, dt_weight, dt_bias, A_logs, Ds, height, width, _in_chunks)


def _in_chunks(u, delta, A, B, C, D, bias):
    step = functional.softplus(delta.float() + bias[:, None]).mT.unflatten(2, (K, -1))  # (B, L, K, D)
    driven = step * u.float().mT.unflatten(2, (K, -1))
    A = A.view(K, -1, N)
    h = step.new_zeros(*step[:, 0].shape, N)
    ys = []
    for begin in range(0, u.shape[2], CHUNK):
        part = slice(begin, begin + CHUNK)
        decay = (step[:, part, :, :, None] * A).cumsum(1).exp()
        B_c, C_c = (m[..., part].float().permute(0, 3, 1, 2)[:, :, :, None] for m in (B, C))
        states = decay * ((driven[:, part, :, :, None] * B_c / decay).cumsum(1) + h[:, None])
        ys.append((states * C_c).sum(-1))
        h = states[:, -1]
    y = torch.cat(ys, dim=1).flatten(2).mT + D[:, None] * u
    return y.to(u.dtype)


def triton_scan(u, delta, A, B, C, D, bias):
    """As mamba's kernel works: a block per row, tokens in parallel, states one after another."""
    import triton

    from gpu_peers_triton import scan_rows

    batch, rows, length = u.shape
    y = torch.empty_like(u)
    u, delta = u.contiguous(), delta.contiguous()
    tile = min(TILE, triton.next_power_of_2(length))
    scan_rows[(batch, rows)](u, delta, A, B, C, D, bias, y, rows, length, rows // K, N=N, TILE=tile, num_warps=4)
    return y

"""The selective scan in float64 loops, and SS2D the textbook way: permute four copies, scan each, undo, add."""

import numpy as np


def softplus(v):
    return np.where(v > 20, v, np.log1p(np.exp(np.minimum(v, 20))))


def scan(u, delta, A, B, C, D):
    """One image: u, delta (D, L); A (D, N); B, C (N, L); D (D,)."""
    h = np.zeros_like(A)
    y = np.zeros_like(u)
    for t in range(u.shape[1]):
        h = np.exp(delta[:, t, None] * A) * h + (delta[:, t] * u[:, t])[:, None] * B[:, t]
        y[:, t] = h @ C[:, t] + D * u[:, t]
    return y


def ss2d(x, proj, dt_weight, dt_bias, A_logs, Ds, height, width):
    """Cross scan, four scans, cross merge; arguments as `mamba_yolo.ops.ss2d_scan`, numpy float64."""
    batch, length, channels = x.shape
    rank, states = dt_weight.shape[2], A_logs.shape[1]
    out = np.zeros_like(x)
    for b in range(batch):
        image = x[b].T.reshape(channels, height, width)
        rows = proj[b].T.reshape(4, rank + 2 * states, height, width)
        for k in range(4):
            unfold = (lambda m: m.swapaxes(-1, -2)) if k % 2 else (lambda m: m)
            u, row = (unfold(m).reshape(m.shape[0], length) for m in (image, rows[k]))
            if k >= 2:
                u, row = u[:, ::-1], row[:, ::-1]
            delta = softplus(dt_weight[k] @ row[:rank] + dt_bias[k][:, None])
            span = slice(k * channels, (k + 1) * channels)
            y = scan(u, delta, -np.exp(A_logs[span]), row[rank : rank + states], row[rank + states :], Ds[span])
            if k >= 2:
                y = y[:, ::-1]
            y = y.reshape(channels, width, height).swapaxes(1, 2) if k % 2 else y.reshape(channels, height, width)
            out[b] += y.reshape(channels, length).T
    return out

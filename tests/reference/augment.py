"""Slow oracle of a training picture in float64: draws its own numbers, builds the whole canvas, samples every pixel.

Written from the definitions (data.md 5 and 6) and the draw order stated in `rust/src/augment/plan.rs`; Philox from its
paper. Returns planes as floats and boxes before rounding to float32.
"""

from __future__ import annotations

import colorsys
from types import SimpleNamespace

import numpy as np
from PIL import Image

from data import reference

GREY = 114.0
M32 = 2**32 - 1


class Stream:
    """Philox4x32-10 keyed by (seed, epoch, position, purpose)."""

    def __init__(self, seed, epoch, position, purpose):
        self.key, self.rest, self.count, self.words = (seed & M32, seed >> 32), (position, epoch, purpose), 0, []

    def unit(self):
        if not self.words:
            c, k = [self.count, *self.rest], list(self.key)
            for _ in range(10):
                a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
                c = [(b >> 32) ^ c[1] ^ k[0], b & M32, (a >> 32) ^ c[3] ^ k[1], a & M32]
                k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
            self.count, self.words = self.count + 1, c
        low, high, *self.words = self.words
        self.bits = high << 32 | low
        return (self.bits >> 11) / 2**53

    def between(self, low, high):
        return low + (high - low) * self.unit()

    def below(self, bound):
        self.unit()
        return self.bits * bound >> 64

    def permutation(self, n):
        order = list(range(n))
        for last in range(n - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


def draw_scene(s, a):
    r = SimpleNamespace(mosaic=s.unit() < a.mosaic)
    r.centre_y, r.centre_x = s.between(0.5, 1.5), s.between(0.5, 1.5)
    r.px, r.py = s.between(-a.perspective, a.perspective), s.between(-a.perspective, a.perspective)
    r.angle = s.between(-a.degrees, a.degrees)
    r.gain = s.between(1 - a.scale, 1 + a.scale)
    r.shear = s.between(-a.shear, a.shear), s.between(-a.shear, a.shear)
    r.shift = s.between(0.5 - a.translate, 0.5 + a.translate), s.between(0.5 - a.translate, 0.5 + a.translate)
    return r


def draw(seed, epoch, position, a, n):
    s = Stream(seed, epoch, position, 2)
    p = SimpleNamespace(first=draw_scene(s, a))
    window = min(n, 128)
    others = [s.below(window) for _ in range(3)]
    p.hue, p.sat, p.val = (
        s.between(-a.hsv_h, a.hsv_h),
        1 + s.between(-a.hsv_s, a.hsv_s),
        1 + s.between(-a.hsv_v, a.hsv_v),
    )
    p.ud, p.lr = s.unit() < a.flipud, s.unit() < a.fliplr
    u = s.unit()
    p.mix, p.cut = u < a.mixup, a.mixup <= u < a.mixup + a.cutmix
    p.second = draw_scene(s, a)
    others += [s.below(window) for _ in range(4)]
    p.weight = sorted(s.unit() for _ in range(63))[31]
    p.cuts = [((1 - s.unit()) ** 0.5, s.unit(), s.unit()) for _ in range(3)]
    p.pick = s.unit()
    before, order = (Stream(seed, e, 0, 1).permutation(n) for e in (max(epoch - 1, 0), epoch))
    p.samples = [(before + order)[n + position - back] for back in (0, *others)]
    return p


def matrix(r, height, width, base, side):
    k = r.gain * side / base
    c, s = np.cos(np.radians(r.angle)) * k, np.sin(np.radians(r.angle)) * k
    tx, ty = np.tan(np.radians(r.shear))
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [r.px, r.py, 1]])
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    shear = np.array([[1, tx, 0], [ty, 1, 0], [0, 0, 1]])
    move = np.array([[1, 0, r.shift[0] * side], [0, 1, r.shift[1] * side], [0, 0, 1]])
    return move @ shear @ turn @ tilt @ centre


def warp(canvas, m, side):
    """Exact bilinear on the integer grid; grey outside and behind the horizon."""
    h, w = canvas.shape[:2]
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    u, v, d = np.linalg.inv(m) @ np.stack([x.ravel(), y.ravel(), np.ones(side * side)])
    front = d > 1e-9
    u, v = np.where(front, u / d, -9), np.where(front, v / d, -9)
    u, v = np.clip(u, -2, w + 1), np.clip(v, -2, h + 1)
    padded = np.pad(canvas.astype(float), ((3, 3), (3, 3), (0, 0)), constant_values=GREY)
    i, j = np.floor(v).astype(int), np.floor(u).astype(int)
    a, b = (v - i)[:, None], (u - j)[:, None]
    at = lambda dy, dx: padded[i + dy + 3, j + dx + 3]  # noqa: E731
    out = (at(0, 0) * (1 - b) + at(0, 1) * b) * (1 - a) + (at(1, 0) * (1 - b) + at(1, 1) * b) * a
    return out.reshape(side, side, 3)


def tile(sample, base):
    """The picture with its long side at `base`, boxes and polygons on it."""
    image = np.asarray(Image.open(sample.path).convert("RGB"))
    h, w = image.shape[:2]
    new = [min(int(np.ceil(n * base / max(h, w))), base) for n in (h, w)]
    gain = np.array([new[1] / w, new[0] / h])
    objects = [
        (b.reshape(2, 2) * gain, int(c), [p * gain for p in s])
        for b, c, s in zip(
            sample.boxes_xyxy, sample.classes, sample.segments or [[]] * len(sample.classes), strict=True
        )
    ]
    return np.rint(reference.resize(image, *new)), objects


def corners(box):
    (x1, y1), (x2, y2) = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def clip_ring(ring, width, height):
    """Sutherland-Hodgman against 0..width, 0..height."""
    for axis, sign, limit in ((0, 1, 0), (0, -1, width), (1, 1, 0), (1, -1, height)):
        kept = []
        for a, b in zip(np.roll(ring, 1, axis=0), ring, strict=True):
            fa, fb = sign * (a[axis] - limit), sign * (b[axis] - limit)
            if (fa < 0) != (fb < 0):
                kept.append(a + (b - a) * fa / (fa - fb))
            if fb >= 0:
                kept.append(b)
        ring = np.array(kept).reshape(-1, 2)
    return ring


def clip_object(o, width, height):
    box, c, rings = o
    if rings:
        rings = [r for r in (clip_ring(r, width, height) for r in rings) if len(r) > 2]
        if not rings:
            return None
        points = np.concatenate(rings)
        box = np.stack([points.min(0), points.max(0)])
    else:
        box = np.clip(box, 0, [width, height])
    return (box, c, rings) if np.prod(box[1] - box[0]) > 0 else None


def scene(r, samples, a, p, base, side, datas):
    tiles = [tile(datas[s], base) for s in (samples if r.mosaic else samples[:1])]
    if r.mosaic:
        canvas = np.full((2 * base, 2 * base, 3), GREY)
        cy, cx = int(r.centre_y * base), int(r.centre_x * base)
        objects = []
        for k, (image, found) in enumerate(tiles):
            h, w = image.shape[:2]
            top, left = cy - h if k < 2 else cy, cx - w if k % 2 == 0 else cx
            for y in range(max(top, 0), min(top + h, 2 * base)):
                x1, x2 = max(left, 0), min(left + w, 2 * base)
                canvas[y, x1:x2] = image[y - top, x1 - left : x2 - left]
            at = np.array([left, top])
            moved = [(b + at, c, [q + at for q in s]) for b, c, s in found]
            objects += [o for o in (clip_object(o, 2 * base, 2 * base) for o in moved) if o]
    else:
        canvas, objects = tiles[0]
    h, w = canvas.shape[:2]
    m = matrix(r, h, w, base, side)
    image = warp(canvas, m, side)
    if p.lr:
        image = image[:, ::-1]
    if p.ud:
        image = image[::-1]
    pasted = paste(objects, w, a.copy_paste)
    mirrored = warp(canvas[:, ::-1], m, side)
    mirrored = mirrored[:, ::-1] if p.lr else mirrored
    mirrored = mirrored[::-1] if p.ud else mirrored
    for _, _, rings in pasted:
        for ring in rings:
            q = clip_ring(through(m, ring, p, side), side, side)
            if len(q) > 2:
                image = np.where(inside(q, side)[..., None], mirrored, image)
    placed = [place(o, m, p, side, r.gain * side / base) for o in objects + pasted]
    return image, [o for o in placed if o]


def paste(objects, width, part):
    found = []
    for box, c, rings in objects:
        if rings:
            flip = np.array([[width - box[1, 0], box[0, 1]], [width - box[0, 0], box[1, 1]]])
            shares = []
            for other, _, _ in objects:
                wh = np.minimum(other[1], flip[1]) - np.maximum(other[0], flip[0])
                shares.append(np.prod(np.maximum(wh, 0)) / np.prod(other[1] - other[0]))
            if max(shares) < 0.3:
                found.append((max(shares), (flip, c, [np.array([width, 0]) + q * [-1, 1] for q in rings])))
    found.sort(key=lambda f: f[0])
    return [o for _, o in found[: int(np.floor(part * len(found) + 0.5))]]


def inside(ring, side):
    """Even-odd at pixel centres."""
    x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    odd = np.zeros((side, side), bool)
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if a[1] != b[1]:
            crosses = (a[1] <= y) != (b[1] <= y)
            odd ^= crosses & (x >= a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
    return odd


def through(m, points, p, side):
    q = np.concatenate([points, np.ones((len(points), 1))], 1) @ m.T
    assert (q[:, 2] > 0.01).all(), "the oracle does not know the horizon; use a smaller perspective"
    q = q[:, :2] / q[:, 2:]
    return np.stack([side - q[:, 0] if p.lr else q[:, 0], side - q[:, 1] if p.ud else q[:, 1]], 1)


def kept(old, new, gain, outlined):
    w, h = new[1] - new[0]
    area = np.prod((old[1] - old[0]) * gain)
    return w > 2 and h > 2 and w * h / (area + 1e-16) > (0.01 if outlined else 0.1) and max(w / h, h / w) < 100


def place(o, m, p, side, gain):
    box, c, rings = o
    if rings:
        new = clip_object((box, c, [through(m, q, p, side) for q in rings]), side, side)
    else:
        q = through(m, corners(box), p, side)
        new = clip_object((np.stack([q.min(0), q.max(0)]), c, []), side, side)
    return new if new and kept(box, new[0], gain, bool(rings)) else None


def picture(dataset, a, seed, epoch, position, base, side=None):
    """Planes (3, side, side) and objects (box, class, polygons) in pixels."""
    side = side or base
    p = draw(seed, epoch, position, a, len(dataset))
    image, objects = scene(p.first, p.samples[:4], a, p, base, side, dataset)
    if p.mix or p.cut:
        other, others = scene(p.second, p.samples[4:], a, p, base, side, dataset)
    if p.mix:
        image, objects = np.floor(np.rint(image) * p.weight + np.rint(other) * (1 - p.weight)), objects + others
    if p.cut:
        windows = [
            [int(np.clip(np.floor((c + k * s / 2) * side + 0.5), 0, side)) for k in (-1, 1) for c in (x, y)]
            for s, x, y in p.cuts
        ]
        free = [
            w
            for w in windows
            if w[0] < w[2]
            and w[1] < w[3]
            and all(
                min(b[1, 0], w[2]) <= max(b[0, 0], w[0]) or min(b[1, 1], w[3]) <= max(b[0, 1], w[1])
                for b, _, _ in objects
            )
        ]
        if free:
            x1, y1, x2, y2 = free[int(p.pick * len(free))]
            image = image.copy()
            image[y1:y2, x1:x2] = other[y1:y2, x1:x2]
            corner = np.array([x1, y1])
            for box, c, rings in others:
                moved = (box - corner, c, [q - corner for q in rings])
                o = clip_object(moved, x2 - x1, y2 - y1)
                if o and kept(box, o[0], 1, bool(rings)):
                    objects = [*objects, (o[0] + corner, c, [q + corner for q in o[2]])]
    if a.hsv_h or a.hsv_s or a.hsv_v:
        image = np.apply_along_axis(shift_hsv, 2, np.rint(image), p.hue, p.sat, p.val)
    return image.transpose(2, 0, 1), objects


def shift_hsv(rgb, hue, saturation, value):
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    return [255 * c for c in colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), min(v * value, 1))]

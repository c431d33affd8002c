"""Key names of our network and of the official one, both ways.

Test: tests/models/test_official.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BINS_KEY, OFFICIAL_BINS_KEY = "head.bins", "model.21.dfl.conv.weight"

# Ours to official, applied one after the other; the first group fits inside blocks, the second places the blocks.
RULES = [
    (r"^(backbone\.stages\.\d\.\d+)\.projection\.conv\.", r"\1.proj_conv.0."),
    (r"^(backbone\.stages\.\d\.\d+)\.projection\.norm\.", r"\1.proj_conv.1."),
    (r"^(backbone\.stages\.\d\.\d+)\.scans\.0\.", r"\1.op."),
    (r"^(neck\..*)\.projection\.conv\.", r"\1.in_proj.0."),
    (r"^(neck\..*)\.projection\.norm\.", r"\1.in_proj.1."),
    (r"\.scans\.(\d+)\.", r".ss2d.\1."),
    (r"\.local\.depthwise\.", ".lsblock.fc1."),
    (r"\.local\.norm\.", ".lsblock.norm."),
    (r"\.local\.hidden\.", ".lsblock.fc2."),
    (r"\.local\.out\.", ".lsblock.fc3."),
    (r"\.mlp\.hidden\.", ".mlp.fc1."),
    (r"\.mlp\.out\.", ".mlp.fc2."),
    (r"\.mlp\.depthwise\.", ".mlp.dwconv."),
    (r"\.scan_norm\.", ".norm.norm."),
    (r"\.mlp_norm\.", ".norm2.norm."),
    (r"\.depthwise\.", ".conv2d."),
    (r"^backbone\.stem\.to_half\.conv\.", "model.0.conv.0."),
    (r"^backbone\.stem\.to_half\.norm\.", "model.0.conv.1."),
    (r"^backbone\.stem\.to_quarter\.conv\.", "model.0.conv.3."),
    (r"^backbone\.stem\.to_quarter\.norm\.", "model.0.conv.4."),
    (r"^backbone\.downsamples\.(\d)\.merge\.conv\.", r"backbone.downsamples.\1.pw_linear.0."),
    (r"^backbone\.downsamples\.(\d)\.merge\.norm\.", r"backbone.downsamples.\1.pw_linear.1."),
    (r"^((?:neck\.downsamples|head|mask_head|backbone\.pooling)\..*)\.norm\.", r"\1.bn."),
    (r"^backbone\.downsamples\.0\.", "model.2."),
    (r"^backbone\.downsamples\.1\.", "model.4."),
    (r"^backbone\.downsamples\.2\.", "model.6."),
    (r"^backbone\.pooling\.reduce\.", "model.8.cv1."),
    (r"^backbone\.pooling\.expand\.", "model.8.cv2."),
    (r"^neck\.top_down\.0\.", "model.11."),
    (r"^neck\.top_down\.1\.", "model.14."),
    (r"^neck\.downsamples\.0\.", "model.15."),
    (r"^neck\.bottom_up\.0\.", "model.17."),
    (r"^neck\.downsamples\.1\.", "model.18."),
    (r"^neck\.bottom_up\.1\.", "model.20."),
    (r"^head\.box_branches\.", "model.21.cv2."),
    (r"^head\.class_branches\.", "model.21.cv3."),
    (r"^head\.bins$", OFFICIAL_BINS_KEY),
    (r"^mask_head\.coef_branches\.", "model.21.cv4."),
    (r"^mask_head\.prototypes\.before\.", "model.21.proto.cv1."),
    (r"^mask_head\.prototypes\.upsample\.", "model.21.proto.upsample."),
    (r"^mask_head\.prototypes\.after\.", "model.21.proto.cv2."),
    (r"^mask_head\.prototypes\.out\.", "model.21.proto.cv3."),
]
COMPILED_RULES = [(re.compile(pattern), replacement) for pattern, replacement in RULES]
STAGE_KEY = re.compile(r"^backbone\.stages\.(\d)\.(\d+)\.(.*)$")


def keys_by_official(ours: Iterable[str]) -> dict[str, str]:
    """Official key to our key."""
    keys = list(ours)
    matches = [match for key in keys if (match := STAGE_KEY.match(key))]
    last_block = {stage: max(int(m[2]) for m in matches if m[1] == stage) for stage in {m[1] for m in matches}}
    return {_official_key(key, last_block): key for key in keys}


def _official_key(key: str, last_block: Mapping[str, int]) -> str:
    """Official name of one of our keys; a stage of one block has no block number there."""
    for pattern, replacement in COMPILED_RULES:
        key = pattern.sub(replacement, key)
    if match := STAGE_KEY.match(key):
        stage, block, rest = match.groups()
        number = f"{block}." if last_block[stage] else ""
        return f"model.{2 * int(stage) + 1}.{number}{rest}"
    return key

"""Options of `explain`. Standard library only, as config.py. Test: tests/engine/test_explain.py."""

from __future__ import annotations

from dataclasses import dataclass

from mamba_yolo.checks import check_imgsz, check_range

NUM_STAGES = 4


@dataclass(frozen=True)
class ExplainConfig:
    """What to look at, and where the pictures go."""

    source: str = ""
    """Photograph to explain. Of a folder, glob or .txt list the first; receptive fields are means over up to 8."""
    model: str = "mamba-yolo-t"
    """Weights file, or a preset for a look at random weights."""
    target: str = ""
    """Class (name or number) whose detections are explained together; empty: the surest detection alone."""
    conf: float = 0.25
    """Lowest score of the places that count as detections of the target."""
    stage: int = 2
    """Stage of the backbone (1 to 4, strides 4 to 32) whose last scan is shown direction by direction."""
    imgsz: int = 640
    """Side of the square network input in pixels."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    project: str = "runs"
    """Folder of all runs."""
    name: str = "explain"
    """Folder of the pictures inside the project; a number is added when it exists."""
    json: bool = False
    """Print one JSON object on standard output and nothing else there."""

    def __post_init__(self) -> None:
        """Check every domain."""
        check_imgsz(self.imgsz)
        check_range("conf", self.conf, 0, 1)
        check_range("stage", self.stage, 1, NUM_STAGES)

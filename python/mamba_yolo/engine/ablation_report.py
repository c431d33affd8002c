"""The ablation table as Markdown, CSV, JSON and a picture: counts of every network, figures of those trained.

Spread is the sample standard deviation over seeds; the change against the first row is taken seed by seed, because runs
of one seed see the same pictures in the same order. Test: tests/engine/test_ablation_report.py.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from mamba_yolo.engine.ablation import Measured, measured
from mamba_yolo.engine.report import short_path
from mamba_yolo.engine.safefile import write_text
from mamba_yolo.models.ablation import (
    ABLATION,
    BASE,
    BILLION,
    MILLION,
    Row,
    count,
    mismatches,
    published,
    row_config,
)
from mamba_yolo.models.flops import CONVENTION
from mamba_yolo.visual.charts import Interval, interval_chart, standalone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mamba_yolo.config import TrainConfig

STEM = "ablation"  # of the files in the folder
COCO = "80 classes, 640 px"


class Spread(NamedTuple):
    """Mean of several runs and their sample standard deviation, None for one run."""

    mean: float
    spread: float | None
    runs: int

    def __str__(self) -> str:
        """As in `0.512 ± 0.004`."""
        return f"{self.mean:.3f}{self.margin()}"

    def margin(self) -> str:
        """As in ` ± 0.004`."""
        return "" if self.spread is None else f" ± {self.spread:.3f}"


class RowFigures(NamedTuple):
    """What the seeds of one row gave; `change` is AP beside the first row, None without a common seed."""

    row: Row
    ap: Spread
    ap50: Spread
    change: Spread | None
    minutes: float


def spread_of(values: Sequence[float]) -> Spread:
    """Mean and spread of at least one value."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def row_figures(runs: Sequence[Measured]) -> list[RowFigures]:
    """Runs gathered by row, in the order of the table."""
    base = {run.seed: run.map50_95 for run in runs if run.row == BASE}
    gathered = []
    for row in ABLATION:
        own = [run for run in runs if run.row == row.name]
        if not own:
            continue
        changes = [run.map50_95 - base[run.seed] for run in own if run.seed in base]
        gathered.append(
            RowFigures(
                row,
                spread_of([run.map50_95 for run in own]),
                spread_of([run.map50 for run in own]),
                spread_of(changes) if changes and row.name != BASE else None,
                statistics.fmean(run.minutes for run in own),
            )
        )
    return gathered


def counts_markdown(rows: Sequence[Row], preset: str) -> str:
    """Parameters and FLOPs of every row at COCO size beside the paper's, mismatches named below."""
    cells, notes = [], []
    for row in rows:
        config = row_config(row, preset)
        ours, paper = count(config), published(config)
        printed = (paper.parameters_m, paper.flops_g, paper.ap or "") if paper else ("", "", "")
        giga = (f"{flops / BILLION:.1f}" for flops in (ours.flops, ours.scan_flops, ours.layer_flops))
        cells.append((row.name, row.group, f"{ours.parameters / MILLION:.2f}", *giga, *printed))
        notes += [f"- {row.name}: {note}." for note in mismatches(config)]
    columns = ("row", "studied", "M parameters", "GFLOPs", "of which scan", "layers only", "paper: M", "GFLOPs", "AP")
    head = f"{preset}, {COCO}. Counted: {CONVENTION}. Layers only: without the scan and its projections."
    return "\n".join([head, "", *markdown_table(columns, cells), *([""] if notes else []), *notes]) + "\n"


def results_markdown(config: TrainConfig, figures: Sequence[RowFigures]) -> str:
    """Figures of the trained rows beside what the papers say."""
    cells = []
    for f in figures:
        ours = count(row_config(f.row, config.model))
        size = (f"{ours.parameters / MILLION:.2f}", f"{ours.flops / BILLION:.1f}")
        change = "" if f.change is None else f"{f.change.mean:+.3f}{f.change.margin()}"
        cells.append((f.row.name, *size, f.ap.runs, f.ap, f.ap50, change, f"{f.minutes:.1f}", f.row.paper_says))
    columns = ("row", "M parameters", "GFLOPs", "seeds", "AP", "AP50", "AP beside base", "minutes", "the papers say")
    head = (
        f"{config.model} on {short_path(config.data)}, {config.epochs} epochs, {config.imgsz} px, batch "
        f"{config.batch}; parameters and FLOPs at COCO size ({COCO}); mean ± sample standard deviation over seeds; "
        "AP beside base is taken seed by seed."
    )
    return "\n".join([head, "", *markdown_table(columns, cells)]) + "\n"


def to_dict(rows: Sequence[Row], config: TrainConfig, runs: Sequence[Measured]) -> dict[str, Any]:
    """Everything as plain values."""
    figures = {f.row.name: f for f in row_figures(runs)}
    return {
        "model": config.model,
        **{name: getattr(config, name) for name in ("data", "epochs", "imgsz", "batch") if runs},
        "convention": CONVENTION,
        "rows": [_row_dict(row, config.model, figures.get(row.name), runs) for row in rows],
    }


def write_files(folder: Path, config: TrainConfig) -> None:
    """Write ablation.md, .csv, .json and .svg of all runs that are finished in a folder."""
    runs = measured(folder)
    figures = row_figures(runs)
    rows = [f.row for f in figures]
    text = results_markdown(config, figures) + "\n" + counts_markdown(rows, config.model)
    write_text(folder / f"{STEM}.md", text)
    plain = to_dict(rows, config, runs)
    write_text(folder / f"{STEM}.json", json.dumps(plain, indent=1, allow_nan=False) + "\n")
    write_text(folder / f"{STEM}.csv", _csv(plain["rows"]))
    if figures:
        lines = [Interval(f.row.name, f.ap.mean, f.ap.spread or 0.0) for f in figures]
        write_text(folder / f"{STEM}.svg", standalone(interval_chart(lines, "AP, mean and spread over seeds")))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, padded so that it can be read as it is."""
    texts = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in texts]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _row_dict(row: Row, preset: str, figures: RowFigures | None, runs: Sequence[Measured]) -> dict[str, Any]:
    config = row_config(row, preset)
    ours, paper = count(config), published(config)
    trained: dict[str, Any] = {}
    if figures is not None:
        spreads = {"ap": figures.ap, "ap50": figures.ap50, "ap_beside_base": figures.change}
        trained = {name: None if value is None else value._asdict() for name, value in spreads.items()}
        trained |= {"minutes": figures.minutes, "runs": [r._asdict() for r in runs if r.row == row.name]}
    return {
        **row._asdict(),
        "parameters": ours.parameters,
        "flops": ours.flops,
        "scan_flops": ours.scan_flops,
        "layer_flops": ours.layer_flops,
        "paper": None if paper is None else vars(paper),
        "mismatches": mismatches(config),
        **trained,
    }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "seed", "parameters", "flops", "map50_95", "map50", "best_epoch", "epochs", "minutes"])
    for row in rows:
        for run in row["runs"]:
            values = (run[k] for k in ("map50_95", "map50", "best_epoch", "epochs", "minutes"))
            writer.writerow([row["name"], run["seed"], row["parameters"], row["flops"], *values])
    return out.getvalue()

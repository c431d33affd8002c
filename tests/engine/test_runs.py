"""Run folders count upwards and are never used twice."""

from mamba_yolo.engine.runs import new_run_folder


def test_numbers(tmp_path):
    made = [new_run_folder(str(tmp_path / "runs"), "predict").name for _ in range(3)]
    assert made == ["predict", "predict2", "predict3"]

"""Where caches lie."""

from mamba_yolo.folders import cache_folder


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMBA_YOLO_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MAMBA_YOLO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mamba-yolo"

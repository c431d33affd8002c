"""`python -m mamba_yolo` is `mamba-yolo`."""

from mamba_yolo.cli.entry import main

main()

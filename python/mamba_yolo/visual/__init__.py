"""Pictures: boxes drawn with Pillow, curves with matplotlib."""

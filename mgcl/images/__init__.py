"""Pictures: any file as RGB, sizes, windows, PNGs written."""

"""The local metric's folder, in the shape that `evaluate.load(path)` wants: `rouge/rouge.py`."""

"""The small network on top of a transformer's hidden states."""

from trlx.utils.modeling import make_head

__all__ = ["make_head"]

"""The policy: a causal language model with a value head, its frozen trunk run once, and its frozen reference."""

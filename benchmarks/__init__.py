"""How fast the engine is, against a plain implementation of the same algorithm; see benchmarks/README.md."""

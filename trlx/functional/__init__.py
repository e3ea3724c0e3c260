"""The mathematics of RLHF as pure functions on tensors: no state, no models, torch only."""

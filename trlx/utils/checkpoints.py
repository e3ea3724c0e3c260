"""Names in a checkpoint that others than the trainer read."""

STATE_FILE = "trainer_state.json"  # step, phase, KL coefficient, moments, best reward, data position

"""What a model is made of, from its config alone."""

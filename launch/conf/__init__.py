"""Files written for llm-on-ray (`X.conf`, a Python dict of literals): read without running them."""

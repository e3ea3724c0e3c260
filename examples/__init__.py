"""Scripts in trlX's manner: `main(hparams)`, which `python -m trlx.sweep` can sweep."""

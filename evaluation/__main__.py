"""`python -m evaluation COMMAND`: what can be seen once a run is judged. (`trlx_inference_gptneo.py` judges it.)"""

from __future__ import annotations

from collections.abc import Sequence

from trlx.utils.commands import Commands
from trlx.utils.errors import run_main

COMMANDS = Commands(
    "python -m evaluation",
    {
        "report": ("evaluation.report.write", "write report.html: tables, curves and every sample on one page"),
        "frontier": ("evaluation.frontier", "measure KL against reward: SFT, best-of-n, PPO's checkpoints, RFT"),
        "samples": ("evaluation.show_samples", "show summaries side by side in the terminal, random or worst ones"),
        "try": ("evaluation.try_it", "paste a post and see what SFT, PPO and best-of-n make of it"),
        "prompts": ("evaluation.prompts", "show what several models answer to the same prompts, with rewards"),
        "scores": ("evaluation.pair_scores", "score good and bad answers by a reward model"),
        "seeds": ("evaluation.seeds", "list the headline numbers of several runs one by one"),
    },
)


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch. Raises: UserError naming the nearest command for an unknown one."""
    COMMANDS.run(argv)


if __name__ == "__main__":
    run_main(main)

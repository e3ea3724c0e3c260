"""Join the ZeRO shards beside this file into one float32 file of weights.

    python ckpts/best_checkpoint/zero_to_fp32.py ckpts/best_checkpoint/best_checkpoint \
        ckpts/best_checkpoint/best_checkpoint/pytorch_model.bin

The file loads into transformers' `AutoModelForCausalLM` (`load_state_dict`), and equals `hf_model` beside it. Nobody
needs it, since `hf_model` is there already; it is kept for those who are used to the command. A copy of this file lies
in every checkpoint that DeepSpeed wrote; it needs torch and DeepSpeed, nothing of this project.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

POLICY = "base_model."


def policy_state(shards: Path) -> dict:
    """The policy's float32 state dict from the folder of shards, without value head and reference."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    whole = get_fp32_state_dict_from_zero_checkpoint(str(shards.parent), tag=shards.name)
    return {name.removeprefix(POLICY): value.float() for name, value in whole.items() if name.startswith(POLICY)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Join ZeRO shards into one float32 file for AutoModelForCausalLM.")
    parser.add_argument("shards", type=Path, help="the folder that holds the ZeRO shards")
    parser.add_argument("output", type=Path, help="the file to write, e.g. pytorch_model.bin")
    arguments = parser.parse_args()
    shards = arguments.shards.resolve()
    if not list(shards.glob("*model_states.pt")):
        sys.exit(f"error: {arguments.shards} holds no ZeRO shards: give the folder with the *_model_states.pt files")
    state = policy_state(shards)
    aside = arguments.output.with_name(f".{arguments.output.name}.writing")
    torch.save(state, aside)
    os.replace(aside, arguments.output)
    print(f"wrote {len(state)} tensors to {arguments.output}")


if __name__ == "__main__":
    main()

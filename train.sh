#!/usr/bin/env bash
# SFT, reward model, PPO and evaluation, one after another, in a new folder runs/DATE-N:
#   bash train.sh sgl_gpu                          one device
#   bash train.sh sgl_mach                         every GPU of this machine (or --processes N on CPUs)
#   bash train.sh mul_mach --hostfile hosts.txt    several machines
#   bash train.sh sgl_mach --config configs/tiny/pipeline.yaml --processes 2    the miniature, on two CPU processes
# --from STAGE --root DIR goes on with a run; --dry_run prints the commands; --help lists everything. docs/launching.md
# The Python is $PYTHON, that of .venv, or the one on the path.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-}"
if [ -z "$python" ]; then
  python="$here/.venv/bin/python"
  [ -x "$python" ] || python="$(command -v python3 || command -v python)" || {
    echo "error: no Python found: run \`make setup\`, or set PYTHON" >&2
    exit 2
  }
fi
# Paths on the command line are relative to where it was given; the packages are found here.
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m launch.pipeline "$@"

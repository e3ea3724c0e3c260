"""SFT from a `.conf` file of llm-on-ray, as a Ray job; see `launch.conf.command`.

python Finetune/finetune.py --config_path Finetune/finetune.conf
python Finetune/finetune.py --config_path Finetune/finetune.conf --print
"""

from launch.conf.command import main
from trlx.utils.errors import run_main

if __name__ == "__main__":
    run_main(lambda: main("finetune"))

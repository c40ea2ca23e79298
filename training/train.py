"""Trains a detector from a checkout: `python training/train.py --help`.

The same as `retinaface-tf train`, without the package being installed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from retinaface_tf.cli import run_script
from retinaface_tf.cli.train import train

if __name__ == "__main__":
    run_script(train)

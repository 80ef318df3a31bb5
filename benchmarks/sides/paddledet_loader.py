"""Images per second that PaddleDetection's readers load, in its environment: see `loaders.py` one folder up.

    python paddledet_loader.py MODEL.yml TrainReader COCO_FOLDER WARM_UP IMAGES

Imports nothing of this project: both packages are called ppdet.
"""

from __future__ import annotations

import json
import sys
import time

import cv2
from ppdet.core.workspace import create, load_config


def main() -> None:
    """Print the figure as the last line."""
    config, key, data = sys.argv[1:4]
    warm_up, images = map(int, sys.argv[4:])
    cv2.setNumThreads(1)
    load_config(config)
    which = key.replace("Reader", "Dataset")
    places = {"dataset_dir": data, "image_dir": "val2017", "anno_path": "annotations/instances_val2017.json"}
    dataset = create(which)()
    dataset.__dict__.update(places)
    loader = create(key)(dataset, worker_num=0)
    loaded = epoch = warm = 0
    before = time.process_time()
    while loaded < warm + images:
        loader.dataset.set_epoch(epoch)
        for _ in loader:
            loaded += loader.batch_size
            if not warm and loaded >= warm_up:
                before, warm = time.process_time(), loaded
            if loaded >= warm + images:
                break
        epoch += 1
    print(json.dumps({"images_per_second": (loaded - warm) / (time.process_time() - before)}))


main()

"""Grey-level histograms of images under policies that the peer emitted; runs in the peer's Python 3.8.

usage: apply.py POLICY_FOLDER IMAGES COUNT DRAWS    prints {epoch: histogram of 256} as JSON

The first COUNT images of the folder, each DRAWS times through every epoch's policy.
"""

import json
import random
import sys
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
from albumentations.pytorch import ToTensorV2


def main(policies, images, count, draws):
    pictures = [cv2.imread(str(f))[..., ::-1] for f in sorted(Path(images).glob("*.png"))[: int(count)]]
    found = {}
    for path in Path(policies).glob("epoch_*.json"):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002  # what Albumentations 0.5.2 draws from
        emitted = A.load(str(path))
        # It ends with the normalisation for its own network, which is no augmentation.
        policy = A.Compose([t for t in emitted if not isinstance(t, (A.Normalize, ToTensorV2))])
        total = np.zeros(256)
        for picture in pictures:
            for _ in range(int(draws)):
                # All channels: its colour shifts tint grey images, and that is part of what it emits.
                total += np.bincount(policy(image=picture.copy())["image"].ravel(), minlength=256)
        found[int(path.stem.split("_")[1])] = (total / total.sum()).tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

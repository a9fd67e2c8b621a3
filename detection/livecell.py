"""What LIVECell fixes: the pixel statistics, the anchors and the evaluation limits that every preset takes over.

Edlund et al., Nature Methods 18, 1038-1045 (2021); its anchor-based model configuration and its evaluation script.
"""

from __future__ import annotations

# Grey values of LIVECell's training images, 0-255.
PIXEL_MEAN = 128.0
PIXEL_STD = 11.578

# Height and width of every image.
HEIGHT, WIDTH = 520, 704

# COCO's 100 detections an image is far below a field of cells: a perfect prediction of 600 cells scores 0.168 there.
MAX_DETECTIONS: tuple[int, int, int] = (100, 500, 2000)

# Areas in square pixels, lower and upper limit of each range; LIVECell's cells are small, so 18² and 31² split them.
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 324.0),
    "medium": (324.0, 961.0),
    "large": (961.0, 1e10),
}

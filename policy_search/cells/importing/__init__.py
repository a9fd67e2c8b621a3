"""Making a COCO file of what labs have: label images beside images, or COCO files of other tools."""

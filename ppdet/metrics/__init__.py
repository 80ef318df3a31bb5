"""COCO and VOC average precision."""

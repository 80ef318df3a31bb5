"""From images to detections: test-time augmentation, tiles, merging, drawing, results."""

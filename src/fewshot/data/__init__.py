"""Data sets: sources, splits, the image store and batched augmentation."""

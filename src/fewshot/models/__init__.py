"""Networks: backbones, classifiers, poolings."""

"""A small run's settings, and the same with one of them changed."""

import copy
from typing import Any

GOOD: dict[str, Any] = {
    "run": "a-run",
    "dataset": {"name": "glyphs"},
    "stage1": {
        "training": {"iterations": 10, "optimizer": {"lr": 0.2, "momentum": 0.5}},
        "networks": {
            "gap": {"backbone": {"name": "c128f"}},
            "dense": {
                "backbone": {"name": "resnet12"},
                "classifier": {"pooling": "dense"},
                "training": {"optimizer": {"lr": 0.3}},
            },
        },
    },
    "stage2": {"implants": {"method": "implanting"}},
    "evaluation": {"tests": [{"networks": ["gap"], "populations": ["novel", "base"]}]},
}


def changed(path: str, value: Any, good: dict[str, Any] | None = None) -> dict[str, Any]:
    data = copy.deepcopy(good or GOOD)
    *parents, last = path.split(".")
    node: Any = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    node[int(last) if isinstance(node, list) else last] = value
    return data

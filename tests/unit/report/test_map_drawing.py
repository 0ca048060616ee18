"""How activation maps are drawn."""

import numpy as np

from fewshot.report import map_drawing


def test_bilinear_maps() -> None:
    values = np.array([[0.0, 1.0], [0.0, 1.0]], dtype=np.float32)
    large = map_drawing.upsample(values, 4)
    assert np.allclose(large, [[0, 0.25, 0.75, 1]] * 4)
    assert np.allclose(map_drawing.upsample(np.full((1, 1), 0.3, dtype=np.float32), 5), 0.3)

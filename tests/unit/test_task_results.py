import numpy as np
import pandas as pd

from fewshot.task_results import save_accuracies


def test_accuracies_are_kept_a_row_a_task(tmp_path):
    save_accuracies(tmp_path / "a.parquet", {"novel": np.array([50.0, 60.0]), "both": np.array([1.0, 2.0])})
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert table.to_dict("list") == {"task": [0, 1], "novel": [50.0, 60.0], "both": [1.0, 2.0]}

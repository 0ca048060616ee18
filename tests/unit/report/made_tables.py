"""The tables of a made-up run (`made_run`), and what stands in them."""

from collections.abc import Callable
from typing import Any

from fewshot.plan import Plan
from fewshot.report.published import Published, load_published
from fewshot.report.rendering import Table
from fewshot.report.results import Row, make_rows, read_settings, read_store
from fewshot.report.tables import accuracy_tables

Make = Callable[..., Plan]

MINI: dict[str, Any] = {
    "dataset": {"name": "miniimagenet"},
    "stage1": {
        "networks": {
            "gap": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "gap"}},
            "dense": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}},
        }
    },
    "stage2": {
        "implants": {"method": "implanting"},
        "implants-gmp": {"method": "implanting", "support_pooling": "gmp", "query_pooling": "dense"},
    },
    "evaluation": {
        "shots": [5],
        "tasks": 10,
        "queries": 3,
        "tests": [
            {
                "networks": ["gap", "dense"],
                "poolings": ["gmp/gmp", "gmp/dense", "gap/gap", "gap/dense"],
                "populations": ["novel", "base", "both"],
            },
            {"networks": ["dense"], "adaptation": "implants", "poolings": ["gap/gap", "gap/gmp", "gap/dense"]},
            {"networks": ["dense"], "adaptation": "implants-gmp", "poolings": ["gap/gap", "gap/gmp", "gap/dense"]},
        ],
    },
    "activation_maps": None,
}


def tables(plan: Plan) -> tuple[dict[str, Table], list[Row]]:
    published = load_published()
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(published))
    return {table.name: table for table in accuracy_tables(plan, rows, published)}, rows


def heads(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def text(table: Table, row: int) -> list[str]:
    return ["" if cell is None else str(cell) for cell in table.rows[row]]


def measured(rows: list[Row], network: str, adaptation: str, setting: str, population: str = "novel") -> str:
    row = next(row for row in rows if row.place == (network, adaptation, setting, population))
    return f"{row.accuracy:.2f} ± {row.ci95:.2f}"

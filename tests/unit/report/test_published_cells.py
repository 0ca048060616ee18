"""config/published.csv against the papers' own text, cell by cell: a number in another row or column is found too."""

import itertools
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]
PAPERS = ROOT.parent / "shared" / "papers"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not PAPERS.is_dir(), reason="the papers' texts are not beside the project"),
]


def text_of(paper: str) -> str:
    return next(PAPERS.glob(f"{paper}_*.txt")).read_text()


Cell = tuple[object, ...]
LOW = {"GAP": "gap", "GMP": "gmp", "DC": "dense"}


def printed(line: str) -> list[tuple[float, float | None] | None]:
    """The numbers of a tab-separated line of a table, None for a dash; words are left out."""
    found: list[tuple[float, float | None] | None] = []
    for cell in line.split("\t"):
        text = re.sub(r"<[^>]*>|\$|\\pm|±", " ", cell).strip()
        number = re.fullmatch(r"(\d+\.\d+)(?:\s+(\d+\.\d+))?", text)
        if number:
            found.append((float(number[1]), float(number[2]) if number[2] else None))
        elif text == "-":
            found.append(None)
    return found


def cells_of_paper_000(text: str) -> dict[Cell, tuple[float, float | None]]:
    """(table, row, stage 1, pools of stage 2, shot, population, support, query) -> what is printed there."""
    found: dict[Cell, tuple[float, float | None] | None] = {}
    stage1, table = "", 3
    for line in text.splitlines():
        name, *words = line.split("\t")
        values = printed(line)
        population = next((one for one in ("base", "novel", "both") if f"{one.title()} classes" in line), "")
        if name in ("C128F", "ResNet-12") and len(values) == 3:
            pool = LOW[words[0]]
            pair = ("gap", "gap") if pool == "gap" else ("gmp", "gmp")
            keys = [("1", f"{name}, {words[0]}", pool, "", shot, "novel", *pair) for shot in (1, 5, 10)]
        elif population and len(values) == 4:
            stage1 = {"Global average pooling": "gap", "Dense classification": "dense"}.get(name, stage1)
            title = {"gap": "Global average pooling", "dense": "Dense classification"}[stage1]
            pairs = (("gmp", "gmp"), ("gmp", "dense"), ("gap", "gap"), ("gap", "dense"))
            keys = [("2", f"{title}, {population} classes", stage1, "", 5, population, *pair) for pair in pairs]
        elif name in LOW and words and words[0] in LOW and len(values) == 3:
            pools, title = f"{LOW[name]}/{LOW[words[0]]}", f"stage 2 {name} support, {words[0]} queries"
            keys = [("3", title, "dense", pools, 5, "novel", "gap", query) for query in ("gap", "gmp", "dense")]
        elif line.startswith("Method\t1-shot"):
            table += 1
            continue
        elif table > 3 and len(values) == 3 and len(words) == 3:
            own = {"GAP": "gap", "DC (ours)": "dense", "DC + WIDE": "dense", "DC + IMP (ours)": "dense"}.get(name, "")
            pair = {"gap": ("gap", "gap"), "dense": ("gap", "dense"), "": ("", "")}[own]
            pools = "gap/gap" if "IMP" in name else ""
            keys = [(str(table), name, own, pools, shot, "novel", *pair) for shot in (1, 5, 10)]
        else:
            continue
        found.update(zip(keys, values, strict=True))
    return {key: value for key, value in found.items() if value is not None}


def test_every_number_of_paper_000_stands_in_its_own_cell(table: pd.DataFrame) -> None:
    rows = table[(table["paper"] == "000") & (table["table"] != "text")]
    pools = rows["stage2_support_pooling"].str.cat(rows["stage2_query_pooling"], "/").replace("/", "")
    keys = zip(
        rows["table"], rows["row"], rows["stage1"], pools, rows["shot"], rows["population"], rows["support_pooling"],
        rows["query_pooling"], strict=True,
    )  # fmt: skip
    ours = dict(
        zip(keys, zip(rows["value"], rows["ci95"].astype(object).where(rows["ci95"].notna(), None), strict=True), strict=True)
    )
    theirs = cells_of_paper_000(text_of("000"))
    assert len(theirs) == 85
    assert ours == theirs


def test_every_number_of_paper_001_stands_in_its_own_cell(table: pd.DataFrame) -> None:
    text = text_of("001").replace("61 11", "61.11")  # a point that the conversion lost
    names = {
        "Rand-noFT": "Rand-noFT", "Imprinting": "Imprinting", "Imprinting+Aug": "Imprinting + Aug", "Rand+FT": "Rand + FT",
        "Imprinting+FT": "Imprinting + FT", "Impriming+FT": "Imprinting + FT", "AllClassJoint": "AllClassJoint",
    }  # fmt: skip
    theirs, number = {}, 0
    for line in text.splitlines():
        number += line.startswith("\t$n =$")
        words = [re.sub(r"<[^>]*>|\$| ", "", cell).removesuffix("2") for cell in line.split("\t")[:2]]
        name = next((names[word] for word in words if word in names), None)
        values = printed(line)
        if name and len(values) == 5:
            theirs.update(
                {(str(number), name, n): value[0] for n, value in zip((1, 2, 5, 10, 20), values, strict=True) if value}
            )
    rows = table[table["paper"] == "001"]
    ours = dict(zip(zip(rows["table"], rows["row"], rows["shot"], strict=True), rows["value"], strict=True))
    assert number == 4
    assert ours == theirs


def test_every_number_of_paper_002_stands_in_its_own_cell(table: pd.DataFrame) -> None:
    text = text_of("002")
    lines = [line.split("\t") for line in text.splitlines() if line.count("\t") == 4 and "%" in line]
    columns = (("omniglot", 20, 1), ("omniglot", 20, 5), ("miniimagenet", 5, 1), ("miniimagenet", 5, 5))
    theirs = {
        (name, *column): float(cell.replace("%", ""))
        for name, *cells in lines
        for column, cell in zip(columns, cells, strict=True)
        if "%" in cell
    }
    rows = table[table["paper"] == "002"]
    keys = zip(rows["row"], rows["dataset"], rows["way"], rows["shot"], strict=True)
    assert dict(zip(keys, rows["value"], strict=True)) == theirs
    assert len(theirs) == 14


def pairs_of_facts() -> dict[str, list[tuple[str, tuple[float, float]]]]:
    """Data set -> (line, the 1-shot and 5-shot accuracy that it prints of one method), of the other methods in the facts.

    A line has several methods' numbers in the same order in both columns, and further pairs as `1-shot/5-shot`.
    """
    text = (PAPERS.parent / "facts.md").read_text(encoding="utf-8")
    found: dict[str, list[tuple[str, tuple[float, float]]]] = {"miniimagenet": [], "fc100": []}
    dataset = ""
    for line in text[text.index("### 9.1") : text.index("## 10.")].splitlines():
        if line.startswith("### "):
            dataset = "fc100" if "FC100" in line else "miniimagenet"
        cells = line.split("|")
        if line.startswith("|") and len(cells) == 7:  # 9.1 and 9.2
            columns = [[float(number) for number in re.findall(r"\d+\.\d+", cell)] for cell in cells[3:5]]
            found[dataset] += [(line, pair) for pair in zip(*columns, strict=False)]
        for first, second in re.findall(r"(\d+\.\d+) ?/ ?(\d+\.\d+)", line):
            found["miniimagenet"].append((line, (float(first), float(second))))
            found["fc100"].append((line, (float(first), float(second))))
    return found


def test_other_methods_are_as_the_facts_have_them() -> None:
    table = pd.read_csv(ROOT / "config" / "published.csv", dtype=str, keep_default_na=False)
    table = table[(table["paper"] == "other") & table["table"].isin(["inductive", "transductive"])]
    facts, checked, strange = pairs_of_facts(), 0, []
    rows = table.to_dict("records")
    for first, second in itertools.pairwise(rows):
        if (first["shot"], second["shot"]) != ("1", "5") or first["method"] != second["method"]:
            continue
        checked += 1
        pair, name = (float(first["value"]), float(second["value"])), first["method"][:3].lower()
        if not any(pair == one and name in line.lower() for line, one in facts[first["dataset"]]):
            strange.append(f"{first['method']} on {first['dataset']}: {pair}")
    assert strange == []
    assert checked == 75

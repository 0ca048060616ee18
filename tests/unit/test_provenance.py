"""Provenance: what a hash of sources sees and what it does not, and how a revision is told."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewshot import provenance
from fewshot.errors import DataError
from fewshot.files import file_hash, write_json


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same name, in which a test may write what it likes."""
    root = tmp_path / "fewshot"
    (root / "methods").mkdir(parents=True)
    for name, text in {
        "__init__.py": "__version__ = '1'\n",
        "methods/__init__.py": "",
        "methods/one.py": "from fewshot.methods import shared\n",
        "methods/two.py": "from . import shared\n",
        "methods/shared.py": "import math\nfrom fewshot.errors import Error\nVALUE = 1\n",
        "errors.py": "class Error(Exception): pass\n",
        "late.py": "def f():\n    from .methods.one import shared\n    import fewshot.methods.two\n",
        "alone.py": "VALUE = 1\n",
    }.items():
        (root / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", root)
    provenance._parsed.cache_clear()
    yield root
    provenance._parsed.cache_clear()


def _hash(*modules: str, **arguments) -> str:
    provenance._parsed.cache_clear()
    return provenance.source_hash(*(f"fewshot.{name}" for name in modules), **arguments)


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("methods/shared.py", {"methods.one", "methods.two", "late"}),
        ("methods/one.py", {"methods.one", "late"}),
        ("methods/two.py", {"methods.two", "late"}),
        ("methods/__init__.py", {"methods.one", "methods.two", "late"}),
        ("alone.py", {"alone"}),
        ("errors.py", set()),  # reaches jobs as settings
        ("__init__.py", set()),
    ],
)
def test_an_edit_changes_the_hash_of_those_who_import_it(package, edited, changed):
    names = ["methods.one", "methods.two", "late", "alone"]
    before = {name: _hash(name) for name in names}
    (package / edited).write_text((package / edited).read_text() + "MORE = 2\n")
    assert {name for name in names if _hash(name) != before[name]} == changed


@pytest.mark.parametrize(
    "text", ['"""Module."""\nVALUE = 1\n', "# a comment\nVALUE   =  1\n", "\n\n'text'\nVALUE = 1  # why\n"]
)
def test_words_and_layout_do_not_count(package, text):
    before = _hash("alone")
    (package / "alone.py").write_text(text)
    assert _hash("alone") == before


def test_docstrings_of_functions_and_classes_do_not_count(package):
    text = 'class A:\n    """{0}"""\n    def f(self):\n        """{0}"""\n        return "{1}"\n'
    hashes = []
    for words in (("a", "x"), ("b", "x"), ("b", "y")):
        (package / "alone.py").write_text(text.format(*words))
        hashes.append(_hash("alone"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_modules_left_out_are_not_followed(package):
    before = _hash("late", without=["fewshot.methods.two"])
    (package / "methods/two.py").write_text("CHANGED = True\n")
    assert _hash("late", without=["fewshot.methods.two"]) == before


def test_an_unknown_module_is_an_error(package):
    with pytest.raises(ModuleNotFoundError, match=r"fewshot\.nothing"):
        _hash("nothing")


def test_hashing_imports_neither_torch_nor_the_module():
    code = (
        "import sys; from fewshot.provenance import source_hash; source_hash('fewshot.training');"
        "print(sorted({'torch', 'numpy', 'mlflow', 'fewshot.training'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_git_revision(tmp_path):
    assert provenance.git_revision(tmp_path) == "unknown"
    _git(tmp_path, "init")
    assert provenance.git_revision(tmp_path) == "unknown"  # nothing committed
    (tmp_path / "file").write_text("1")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "-m", "one")
    revision = provenance.git_revision(tmp_path)
    assert len(revision) == 40
    assert set(revision) <= set("0123456789abcdef")
    (tmp_path / "untracked").write_text("1")
    assert provenance.git_revision(tmp_path) == revision
    (tmp_path / "file").write_text("2")
    assert provenance.git_revision(tmp_path) == revision + "-dirty"


def test_git_revision_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_revision() == "unknown"
    monkeypatch.setenv("FEWSHOT_REVISION", "abc")
    assert provenance.git_revision() == "abc", "a copy without its history"


def test_versions_and_device():
    assert set(provenance.versions()) == {"python", "fewshot", "torch", "torchvision", "numpy"}
    assert provenance.versions()["torch"] != "none"
    words = provenance.device_words("cpu")
    assert words.startswith("CPU (")
    assert words.endswith(" cores)")
    assert "\n" not in words


@pytest.fixture
def archive(tmp_path):
    """An archive and the store that was made of it, with the hash that both had then."""
    path, store = tmp_path / "raw" / "images.tar", tmp_path / "store"
    path.parent.mkdir()
    path.write_bytes(b"images")
    settings = SimpleNamespace(paths=(path,))
    before = provenance.raw_hash(settings, store)
    store.mkdir()
    write_json(store / "meta.json", {"archives": {"images.tar": {"sha256": file_hash(path)}}})
    return path, settings, store, before


def test_an_archive_is_its_bytes_wherever_they_came_from(archive, monkeypatch):
    path, settings, store, before = archive
    again = path.with_name("again")
    again.write_bytes(path.read_bytes())
    again.replace(path)  # fetched again
    assert provenance.raw_hash(settings, store) == before
    path.unlink()
    assert provenance.raw_hash(settings, store) == before
    again.write_bytes(b"others")
    os.utime(again, (0, 0))  # older than the store, as copies that keep their time are
    again.replace(path)
    assert provenance.raw_hash(settings, store) != before


def test_an_archive_older_than_its_store_is_not_read(archive, monkeypatch):
    path, settings, store, before = archive
    later = path.stat().st_ctime + 10
    os.utime(store / "meta.json", (later, later))
    monkeypatch.setattr(provenance, "file_hash", lambda path: pytest.fail(f"{path} was read"))
    assert provenance.raw_hash(settings, store) == before


def test_an_older_archive_of_another_folder_is_read_where_it_is_of_another_size(archive):
    path, _, store, before = archive
    other = path.parent.parent / "other" / path.name
    other.parent.mkdir()
    other.write_bytes(b"other images")
    write_json(store / "meta.json", {"archives": {path.name: {"sha256": file_hash(path), "bytes": path.stat().st_size}}})
    later = other.stat().st_ctime + 10
    os.utime(store / "meta.json", (later, later))
    assert provenance.raw_hash(SimpleNamespace(paths=(path,)), store) == before
    assert provenance.raw_hash(SimpleNamespace(paths=(other,)), store) != before
    assert not provenance.archives_as_known(SimpleNamespace(paths=(other,)), store)


def test_drawn_images_have_no_state_and_a_folder_that_of_its_files(tmp_path):
    assert provenance.raw_hash(SimpleNamespace(paths=()), tmp_path) is None
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"0")
    settings = SimpleNamespace(paths=(folder,))
    before = provenance.raw_hash(settings, tmp_path)
    assert provenance.raw_hash(settings, tmp_path) == before
    for name in (".DS_Store", "Thumbs.db", ".cache/0.png"):  # what the images of a folder are not
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"1")
    assert provenance.raw_hash(settings, tmp_path) == before
    os.utime(folder / "0.png", (0, 0))
    assert provenance.raw_hash(settings, tmp_path) != before


HASH = """
import sys
sys.path.insert(0, sys.argv[1])
from fewshot import job_code, provenance
print(provenance.source_hash("fewshot.training"), job_code.pages("page"), file=sys.stdout)
"""


def hashes(python: str, **environment: str) -> str | None:
    """Hashes of code as a Python of its own tells them; None where it cannot."""
    command = [python, "-c", HASH, str(provenance.ROOT.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    return done.stdout if done.returncode == 0 else None


def test_code_has_the_same_hash_in_every_locale():
    here = hashes(sys.executable)
    assert here is not None
    assert hashes(sys.executable, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C") == here


def test_what_later_pythons_add_to_the_syntax_trees_does_not_count(package, monkeypatch):
    before, dump = _hash("late"), provenance.ast.dump
    monkeypatch.setattr(
        provenance.ast, "dump", lambda tree: dump(tree).replace("decorator_list=[]", "decorator_list=[], type_params=[]")
    )
    assert "type_params" in provenance.ast.dump(provenance.ast.parse("def f(): pass"))
    assert _hash("late") == before


def test_code_has_the_same_hash_for_every_python():
    """What 3.12 adds to the syntax trees is left out."""
    others = [hashes(python, PYTHONPATH=os.pathsep.join(sys.path)) for python in ("python3.11", "python3.12")]
    known = [found for found in others if found is not None]
    if len(known) < 2:
        pytest.skip("no two Pythons here")
    assert known[0] == known[1]


def test_weights_that_are_not_there_are_refused(tmp_path):
    provenance.require_weights(None)
    with pytest.raises(DataError, match=r"nowhere\.pth: no such file of weights; bring it"):
        provenance.require_weights(tmp_path / "nowhere.pth")


def test_a_file_of_a_folder_counts_by_its_size_too(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"0")
    os.utime(folder / "0.png", (0, 0))
    settings = SimpleNamespace(paths=(folder,))
    before = provenance.raw_hash(settings, tmp_path)
    (folder / "0.png").write_bytes(b"00")
    os.utime(folder / "0.png", (0, 0))
    assert provenance.raw_hash(settings, tmp_path) != before


def test_a_module_is_not_left_out_for_the_beginning_of_its_name(package):
    (package / "errors_in_words.py").write_text("VALUE = 1\n")
    before = _hash("errors_in_words")
    (package / "errors_in_words.py").write_text("VALUE = 2\n")
    assert _hash("errors_in_words") != before


def test_one_changed_archive_of_two_is_seen(tmp_path):
    paths, store = (tmp_path / "a.tar", tmp_path / "b.tar"), tmp_path / "store"
    store.mkdir()
    for path in paths:
        path.write_bytes(b"images")
    write_json(store / "meta.json", {"archives": {path.name: {"sha256": file_hash(path)} for path in paths}})
    assert provenance.archives_as_known(SimpleNamespace(paths=paths), store)
    for path in paths:
        path.write_bytes(b"others")
        assert not provenance.archives_as_known(SimpleNamespace(paths=paths), store)
        path.write_bytes(b"images")

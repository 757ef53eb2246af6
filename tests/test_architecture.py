"""The shape of the house: who may import whom, how long things are, and that nothing prints."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "pellucid"
FILES = sorted(SOURCE.rglob("*.py"))

# Top to bottom. A room sees the rooms on lower lines and itself; the engines on one line do not see each other.
LEVELS = [
    {"cli", "server"},
    {"benchmark"},
    {"audit", "dashboard", "learning"},
    {"report"},
    {"testing"},
    {"api"},
    {"evidence"},
    {"verdicts"},
    {"methods"},
    {"metrics"},
    {"expnet"},
    {"games", "relevance", "attention", "sae", "ground_truth"},
    {"models"},
    {"execution"},
]
VOCABULARY = {
    "errors",
    "facts",
    "targets",
    "explanation",
    "records",
    "account",
    "files",
    "intervals",
    "memory",
    "progress",
    "ranks",
    "settings",
    "table",
    "_version",
}
SIGHT_OF_VOCABULARY_ONLY = {"report"}
# The package's own front door re-exports what the api offers, and ``python -m pellucid`` opens the shell.
DOORS = {"__init__", "__main__"}
ALLOWED = {("explanation.py", "report", "_repr_mimebundle_")}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def imported_rooms(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every room of ours that a module imports, with the function that does it ("" at the top).

    ``package`` is the module's package, ("pellucid", "games") for pellucid/games/game.py, to resolve relative imports.
    """

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            names: list[str] = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                origin = ".".join([*base, *([child.module] if child.module else [])])
                names = [f"{origin}.{alias.name}" for alias in child.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "pellucid":
                    yield (parts[1] if len(parts) > 1 else "__init__"), inside
            yield from walk(child, inside)

    return walk(tree, "")


def height(room: str) -> int:
    """Floor of a room, the vocabulary being 0. Raises KeyError for a room that the design does not have."""
    if room in VOCABULARY:
        return 0
    for level, rooms in enumerate(reversed(LEVELS), 1):
        if room in rooms:
            return level
    raise KeyError(f"{room!r} has no place in the house: add it to LEVELS, or put the code into a room that exists")


def wrong_arrows(source: str, path: Path) -> list[str]:
    """A sentence for each import of ``path`` (relative to src/pellucid) that does not point down."""
    home = path.parts[0] if len(path.parts) > 1 else path.stem
    if home in DOORS:
        return []
    wrong = []
    for room, function in imported_rooms(ast.parse(source), ("pellucid", *path.parts[:-1])):
        if room == home or (path.as_posix(), room, function) in ALLOWED:
            continue
        if room == "__version__":
            room = "_version"
        blind = home in SIGHT_OF_VOCABULARY_ONLY and room not in VOCABULARY
        down = room in VOCABULARY if home in VOCABULARY else room not in DOORS and height(room) < height(home)
        if blind or not down:
            wrong.append(f"{path} ({home}) imports {room}{f' in {function}' if function else ''}")
    return wrong


def long_functions(tree: ast.Module, limit: int = LONGEST_FUNCTION) -> list[str]:
    """Names of the functions of more than ``limit`` lines."""
    return [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > limit
    ]


def prints(tree: ast.Module) -> list[int]:
    """Lines on which ``print`` is called."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


@pytest.fixture(params=FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def file(request):
    return request.param


def test_arrows_point_down(file):
    assert wrong_arrows(file.read_text("utf-8"), file.relative_to(SOURCE)) == []


def test_every_room_has_a_place(file):
    parts = file.relative_to(SOURCE).parts
    home = parts[0] if len(parts) > 1 else file.stem
    assert home in DOORS or height(home) >= 0


def test_files_and_functions_are_short(file):
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    assert long_functions(ast.parse(text)) == []


def test_nothing_prints(file):
    assert prints(ast.parse(file.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("games/text.py", "from pellucid.methods import Occlusion", "methods"),
        ("games/text.py", "def f():\n    import pellucid.api", "api in f"),
        ("games/text.py", "from pellucid import api", "api"),
        ("games/text.py", "from .. import cli", "cli"),
        ("games/text.py", "from ..methods.base import Attribution", "methods"),
        ("games/text.py", "from pellucid.sae import train", "sae"),
        ("games/text.py", "import pellucid", "__init__"),
        ("targets.py", "from pellucid.models import Model", "models"),
        ("targets.py", "def _repr_mimebundle_():\n    from pellucid.report import x", "report in _repr_mimebundle_"),
        ("explanation.py", "from pellucid.report import x", "report"),
        ("report/html.py", "from pellucid.games import AbstractGame", "games"),
        ("models/text.py", "if True:\n    from pellucid.audit import run", "audit"),
    ],
)
def test_a_wrong_arrow_is_found(path, source, found):
    (sentence,) = wrong_arrows(source, Path(path))
    assert sentence.split(" imports ")[1] == found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "games/text.py",
            "from . import game\nfrom .game import Values\nfrom pellucid.models import Model\nimport numpy",
        ),
        ("explanation.py", "class E:\n    def _repr_mimebundle_(self):\n        from pellucid.report import x"),
        ("cli/main.py", "from pellucid.audit import run\nfrom pellucid import __version__"),
        ("report/html.py", "from pellucid.explanation import Explanation\nfrom pellucid.report import colours"),
        ("__init__.py", "from pellucid.api import explain"),
    ],
)
def test_a_right_arrow_is_let_through(path, source):
    assert wrong_arrows(source, Path(path)) == []


def test_an_unknown_room_is_refused():
    with pytest.raises(KeyError, match="no place in the house"):
        wrong_arrows("from pellucid.utils import helper", Path("games/text.py"))


def test_length_and_print_are_found():
    tree = ast.parse("def f():\n    x = 1\n    print(x)\n    return x")
    assert long_functions(tree, limit=3) == ["f (4 lines)"]
    assert long_functions(tree, limit=4) == []
    assert prints(tree) == [3]

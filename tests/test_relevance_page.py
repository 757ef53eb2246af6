"""The page about relevance: its tables are what the code says, its examples run, its papers are in the bibliography."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import pellucid
from pellucid.relevance import all_composites
from pellucid.relevance.operations import operation_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "relevance.md"
KEYS = re.compile(r"\[([a-z]+[12][0-9]{3}[a-z]*)[],]")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("write_relevance", ROOT / "scripts" / "write_relevance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def between(name):
    """The lines of one table of the page."""
    return PAGE.read_text("utf-8").split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0].splitlines()


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_tables_are_fresh(script):
    page = PAGE.read_text("utf-8")
    assert f"What torch {script.TORCH} is asked to compute" in " ".join(page.split())
    if not torch.__version__.startswith(f"{script.TORCH}."):
        pytest.skip(f"the page holds the spellings of torch {script.TORCH}")
    assert PAGE.read_text("utf-8") == script.text(), "run: python scripts/write_relevance.py"


def test_every_composite_has_its_row(script):
    rows = {cells(line)[0].strip("`"): cells(line) for line in between("composites")[2:]}
    assert list(rows) == list(all_composites())
    assert rows["backtrace"][3:5] == ["no", "yes"]
    assert rows["attnlrp"][2:5] == ["the coefficient", "yes", "yes"]


@pytest.mark.parametrize(
    ("operation", "spelled", "expected"),
    [
        ("linear", ["F.linear"], ["linear", "adjoint or rule", "rule", "rule"]),
        (
            "add",
            ["+", "+=", "torch.add", "x.add", "x.add_"],
            ["residual, sum, shift", "adjoint or rule", "rule", "rule"],
        ),
        ("softmax", ["F.softmax", "x.softmax"], ["softmax", "constant or adjoint", "rule or constant", "rule"]),
        ("sigmoid", ["F.sigmoid", "torch.special.expit"], ["gate", "constant", "constant or rule", "rule"]),
        ("div", ["/", "/="], ["scale, normaliser", "adjoint or constant", "rule or constant", "rule or constant"]),
        ("relu", ["F.relu", "x.relu_"], ["rectifier", "adjoint", "rule", "rule"]),
        ("embedding", ["F.embedding"], ["embedding", "start", "start", "start"]),
    ],
)
def test_what_the_table_says_of_an_operation(operation, spelled, expected):
    (row,) = [cells(line) for line in between("operations") if line.startswith(f"| `{operation}` |")]
    written = re.findall(r"`([^`]+)`", row[1])
    assert set(spelled) <= set(written)
    assert row[2:] == expected


def test_every_spelling_of_the_table_is_that_operation(script):
    homes = {"torch": torch, "x": torch.Tensor, "F": torch.nn.functional}
    homes |= {"torch.special": torch.special, "torch.linalg": torch.linalg}
    looked_up = 0
    for line in between("operations")[2:]:
        name, written = cells(line)[0].strip("`"), re.findall(r"`([^`]+)`", cells(line)[1])
        for each in written:
            home, _, function = each.rpartition(".")
            if home in homes:
                assert operation_of(getattr(homes[home], function)).name == name, each
                looked_up += 1
    assert looked_up > 250


def examples():
    return [
        block.removeprefix("python\n")
        for block in PAGE.read_text("utf-8").split("```")[1::2]
        if block[:7] == "python\n"
    ]


def test_the_examples_run_and_give_the_shapes_that_they_say():
    torch.manual_seed(0)
    world = {}
    shapes = 0
    for block in examples():
        exec(compile(block, str(PAGE), "exec"), world)
        for expression, shape in re.findall(r"^(\S+)  # \[([0-9, ]+)\]", block, re.MULTILINE):
            assert list(eval(expression, world).shape) == [int(size) for size in shape.split(", ")], expression
            shapes += 1
    assert shapes == 5
    assert (world["squares"].name, world["squares"].facts.name) == ("squares", "squares")
    network, x, odd = world["network"], world["x"], world["odd"]
    assert pellucid.trace(odd, x, strict=False).approximated == (("special_erfcx", "1"),)
    with pytest.raises(pellucid.NoRuleError):
        pellucid.trace(odd, x)
    # The page says that this rule conserves but for nothing, and what it does to one unit.
    trace = pellucid.trace(network, x, pellucid.Logit(1), composite=world["squares"])
    torch.testing.assert_close(trace.arrived, trace.seeded)
    shares = trace["1"].sum(1)
    torch.testing.assert_close(shares, trace.input.sum(1))
    squares = (x[:, None] * network[0].weight).square()
    first = squares / squares.sum(-1, keepdim=True)
    torch.testing.assert_close(trace.input, torch.einsum("bji,bj->bi", first, trace["0"]).detach())


def test_every_picture_and_page_that_is_named_is_there():
    missing = [
        link for link in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text("utf-8")) if not (PAGE.parent / link).is_file()
    ]
    # Written by benchmarks, which take an hour.
    assert [link for link in missing if not link.startswith("benchmarks-relevance")] == []


def test_every_paper_that_is_named_is_in_the_bibliography():
    bibliography = (ROOT / "src" / "pellucid" / "references.bib").read_text("utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), PAGE]
    named = {key for path in sources for key in KEYS.findall(path.read_text("utf-8"))}
    assert {"achtibat2024", "sankarapu2024"} <= named
    assert sorted(named - known) == []

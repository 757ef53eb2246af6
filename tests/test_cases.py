"""Tables as people have them: what is written comes through unharmed, what cannot be read is told in one sentence."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.audit.cases import Case, Wordings, read_cases
from pellucid.errors import InputError, UnknownNameError

HOSTILE = {
    "script": "<script>alert('x')</script>",
    "bidi": "\u202eabc\u2066",
    "emoji": "\U0001f469\u200d\u2695\ufe0f 5",
    "lines": 'a "quoted", cell\nwith\r\nlines\u2028and',
    "zeros": "05",
    "number": "5.10",
    "words": "no",
    "space": " 7 ",
}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_csv(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, str]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS = {
    "csv": write_csv,
    "tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "jsonl": write_jsonl,
    "ndjson": write_jsonl,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_text_exactly_as_written(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"cases.{suffix}", [HOSTILE, HOSTILE | {"zeros": "", "space": "   "}])
    first, second = read_cases(path)
    assert first == Case(id="1", row=1, values=HOSTILE)
    assert second.values == HOSTILE | {"zeros": None, "space": None}
    assert (second.id, second.row) == ("2", 2)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_cell_of_a_megabyte_passes_and_the_csv_limit_is_put_back(tmp_path: Path, suffix: str) -> None:
    before = csv.field_size_limit()
    path = WRITERS[suffix](tmp_path / f"cases.{suffix}", [{"note": "\u00e9" * 2**20}])
    assert read_cases(path)[0].values["note"] == "\u00e9" * 2**20
    assert csv.field_size_limit() == before


@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) for _ in range(2)]),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_from_every_format(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    table = [{"a": f"x{a}", "b": b} for a, b in rows]
    for suffix, writer in WRITERS.items():
        cases = read_cases(writer(tmp_path / f"cases.{suffix}", table))
        assert [case.values["a"] for case in cases] == [row["a"] for row in table]
        assert [case.values["b"] for case in cases] == [row["b"] if row["b"].strip() else None for row in table]


def test_ids_come_from_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "\ufeffid,age\np-1,52\np-2,\n")
    first, second = read_cases(path, id_column="id", columns=["age", "id"])
    assert (first.id, first.values) == ("p-1", {"id": "p-1", "age": "52"})
    assert second.values["age"] is None


def test_json_numbers_and_truth_values_keep_their_spelling(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"a": 5.10, "b": 12345678901234567890, "c": true}\n\n{"a": null, "d": 1e-3}\n')
    first, second = read_cases(path)
    assert first.values == {"a": "5.10", "b": "12345678901234567890", "c": "true", "d": None}
    assert second.values == {"a": None, "b": None, "c": None, "d": "1e-3"}


def test_parquet_types_become_text_and_nan_is_missing(tmp_path: Path) -> None:
    table = pa.table(
        {
            "int": pa.array([5, None]),
            "float": pa.array([0.1, float("nan")]),
            "bool": pa.array([True, False]),
            "category": pa.array(["II", None]).dictionary_encode(),
            "large": pa.array(["05", "x"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    first, second = read_cases(tmp_path / "c.parquet")
    assert first.values == {"int": "5", "float": "0.1", "bool": "true", "category": "II", "large": "05"}
    assert second.values == {"int": None, "float": None, "bool": "false", "category": None, "large": "x"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.xlsx", "a\n1\n", r"read from \.csv, \.jsonl, \.ndjson, \.parquet, \.tsv files"),
        ("c.csv", b"", "is empty"),
        ("c.csv", b" \n\n", "is empty"),
        ("c.csv", "a,b\n", "no rows"),
        ("c.csv", "name\nM\u00fcller\n".encode("latin-1"), r"byte 0xfc at offset 6 \(line 2\).*iconv -f LATIN1"),
        ("c.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16LE; convert it: iconv -f UTF-16"),
        ("c.csv", "a,b\n1,2\n3,\x00\n", "line 3 .* NUL"),
        ("c.csv", "a,b\n1,2\n3\n", "row 2 .* has 1 cells and the header has 2"),
        ("c.csv", "a,b\n1,2,3\n", "row 1 .* has 3 cells"),
        ("c.csv", "a,b\n1,2\n\n3,4\n", "row 2 .* has 0 cells"),
        ("c.csv", "a,b,a\n1,2,3\n", "'a' stands twice"),
        ("c.csv", "a,,b\n1,2,3\n", "column 2 .* has no name"),
        ("c.csv", 'a,b\n1,"2\n', "not well-formed"),
        ("c.csv", 'a,b\n1,"2"x\n', "not well-formed"),
        ("c.csv", "a;b\n1;2\n", "by semicolons"),
        ("c.csv", "a\tb\n1\t2\n", "by tabs"),
        ("c.csv", "id,age,size\n1,2,3\n1,4,5\n", "rows 1 and 2 .* same id '1'"),
        ("c.csv", "id,age,size\n ,2,3\n", "row 1 .* nothing in its id column"),
        ("c.csv", "id,age,size\n1,2,3\n2, ,\n", r"case '2' \(row 2 .* is empty: age, size are all missing"),
        ("c.jsonl", '{"a": 1}\n{"a": \n', "line 2 .* cannot be read"),
        ("c.jsonl", "[1]\n", "line 1 .* holds list"),
        ("c.jsonl", '{"a": {"b": 1}}\n', "column 'a' holds {'b': '1'}"),
        ("c.jsonl", '{"a": 1, "a": 2}\n', "stands twice"),
        ("c.jsonl", '{"a": NaN}\n', "NaN is not JSON, write null"),
        ("c.jsonl", '{"a": "x\\u0000"}\n', "row 1, column 'a' .* NUL character at position 1"),
        ("c.jsonl", '{"a": "\\ud800"}\n', "lone surrogate at position 0"),
        ("c.jsonl", "[" * 100_000, "cannot be read"),
        ("c.parquet", "not parquet", "no Parquet file"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    header = path.read_bytes()[:2] == b"id"
    with pytest.raises(InputError, match=message) as caught:
        read_cases(path, id_column="id" if header else None, columns=["age", "size"] if header else [])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    assert len(read_cases(write(tmp_path / "c.csv", "a,b\r\n1,2\r\n\r\n\r\n"))) == 1


def test_absent_files_folders_nested_and_doubled_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_cases(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        read_cases(tmp_path / "folder.csv")
    pq.write_table(pa.table({"a": [[1, 2]]}), tmp_path / "nested.parquet")
    with pytest.raises(InputError, match=r"column 'a' .* cannot be read as text"):
        read_cases(tmp_path / "nested.parquet")
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(InputError, match="'a' stands twice"):
        read_cases(tmp_path / "twice.parquet")
    pq.write_table(pa.table({"a": pa.array([b"\xff"])}), tmp_path / "bytes.parquet")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_cases(tmp_path / "bytes.parquet")


def test_unknown_columns_get_a_guess(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "patient,nodes\n1,2\n")
    with pytest.raises(UnknownNameError, match="did you mean 'nodes'"):
        read_cases(path, columns=["node"])
    with pytest.raises(UnknownNameError, match="did you mean 'patient'"):
        read_cases(path, id_column="patients")


def test_wordings_say_what_stands_in_the_table_and_refuse_the_rest() -> None:
    wordings = Wordings(tables={"horm": {"yes": "treated", "no": "not treated"}, "grade": {"I": "good", "*": "poor"}})
    case = Case(id="p1", row=7, values={"horm": "no", "grade": "III", "age": "05", "size": None})
    assert wordings.words(case, ["horm", "grade", "age", "size"]) == {
        "horm": "not treated",
        "grade": "poor",
        "age": "05",
        "size": None,
    }
    strange = Case(id="p2", row=8, values={"horm": "No"})
    with pytest.raises(InputError, match=r"case 'p2' \(row 8\): column 'horm' holds 'No'.*'yes', 'no'"):
        wordings.words(strange, ["horm"])
    assert wordings.word("horm", None) is None
    with pytest.raises(ValueError, match="wording of 'x' in column 'a' is empty"):
        Wordings(tables={"a": {"x": " "}})
    with pytest.raises(ValueError, match="wordings of column 'a' are empty"):
        Wordings(tables={"a": {}})

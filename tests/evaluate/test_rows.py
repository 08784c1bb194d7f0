import csv
from pathlib import Path

import pytest

from ctsr.errors import ReadError
from ctsr.evaluate.output_folder import RowWriter, read_rows, to_csv
from tests.evaluate.made import COLUMNS, METHODS, ref, row


def test_the_columns_are_those_that_users_know() -> None:
    assert COLUMNS.names[:16] == (
        *("patient_id", "series_uid", "deg_seed", "slice_index", "sop_instance_uid", "z_mm", "method"),
        *("MSE", "RMSE", "MAE", "PSNR", "SSIM", "LPIPS", "MA", "NIQE", "PI"),
    )
    assert {"MAE_HU", "RMSE_HU", "BIAS_HU", "pi_kind", "data_range", "not_computed"} <= set(COLUMNS.names)


def test_rows_come_back_to_the_last_bit(tmp_path: Path) -> None:
    rows = [row(ref('Kr,upp "pp"', i), method, 0.1 + i / 3) for i in range(3) for method in METHODS]
    rows.append(row(ref(index=3), METHODS[0], None, "smaller than SSIM's window of 11×11"))
    with RowWriter(tmp_path / "metrics.csv", COLUMNS) as file:
        file.add(rows[:4])
        file.add(rows[4:])
    assert read_rows(tmp_path / "metrics.csv") == rows


def test_what_is_missing_is_empty_and_says_why() -> None:
    text = to_csv([row(ref(), METHODS[0], None, "identical")], COLUMNS)
    (line,) = csv.DictReader(text.splitlines())
    assert line["PSNR"] == line["LPIPS"] == line["pi_kind"] == ""
    assert "PSNR: identical" in line["not_computed"]
    assert "LPIPS: not computed" in line["not_computed"]
    assert "nan" not in text


def test_every_row_says_its_window_and_its_range() -> None:
    (line,) = csv.DictReader(to_csv([row(ref(), METHODS[0])], COLUMNS).splitlines())
    said = [float(line[name]) for name in ("window_center", "window_width", "data_range", "hu_low", "hu_high")]
    assert said == [500, 3000, 1, -1000, 2000]


def test_rows_reach_the_file_while_the_evaluation_runs(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with RowWriter(path, COLUMNS) as file:
        file.add([row(ref(), METHODS[0])])
        assert len(read_rows(path)) == 1


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path, rows = tmp_path / "metrics.csv", [row(ref(index=i), METHODS[0]) for i in range(2)]
    text = to_csv(rows, COLUMNS)
    for cut in (1, 20, 60):
        path.write_text(text[:-cut], encoding="utf-8")
        assert read_rows(path) == rows[:1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (",7,1,", ",seven,1,"),
        (",7,1,", f",{'9' * 5000},1,"),
        (",-2.5,", ",here,"),
        (",0.25,", ",nan,"),
        (",0.25,", ",-inf,"),
        (",0.25,", ",,"),
        (",0.25,", ",0.25\0,"),
        (",0.25,", ",0.2\xff5,"),
        ("anna,", f"{'x' * 200_000},"),
        (",0.25,0.25,0.25", ""),
        ("1.2.3,7,1", "1.2.3"),
    ],
    ids=["word", "digits", "place", "nan", "inf", "empty", "zero byte", "no UTF-8", "endless", "short", "columns"],
)
def test_a_line_that_holds_something_else_counts_for_none(tmp_path: Path, before: str, after: str) -> None:
    """Its slice is computed again; it was a traceback, or NaN among the values."""
    path, rows = tmp_path / "metrics.csv", [row(ref(index=i), METHODS[0], 0.25) for i in range(3)]
    first, damaged, last = to_csv(rows, COLUMNS).splitlines(keepends=True)[1:]
    assert before in damaged
    text = to_csv([], COLUMNS) + first + damaged.replace(before, after, 1) + last
    path.write_bytes(text.encode("latin-1"))
    assert read_rows(path) in (rows[:1] + rows[2:], rows[:1])


def test_a_file_with_other_columns_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,2\n", encoding="utf-8")
    with pytest.raises(ReadError, match="columns"):
        read_rows(tmp_path / "metrics.csv")


def test_a_reason_with_semicolons_comes_back_as_one_reason(tmp_path: Path) -> None:
    """As MA's where its file is missing: it holds a line of Python."""
    reason = 'not in /x; `python -c "import pyiqa; pyiqa.create_metric(...)"` downloads it'
    written = row(ref(), METHODS[0], None, reason)
    with RowWriter(tmp_path / "metrics.csv", COLUMNS) as file:
        file.add([written])
    assert read_rows(tmp_path / "metrics.csv") == [written]

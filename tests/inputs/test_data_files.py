"""Arrays from .npz, .npy and .csv files, and the one line where there are none."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gradscope.errors import UsageError
from gradscope.inputs.data import Data, check_data, load_data
from tests.support.data_files import X, Y
from tests.support.refusals import refusal

# .npz and .npy


def test_npz_holds_x_and_y(tmp_path, classifier):
    np.savez(tmp_path / "d.npz", x=X, y=Y, x_val=X[:2], y_val=Y[:2])
    data = load_data(str(tmp_path / "d.npz"), classifier)
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    assert data.kind == "npz"


def test_npz_without_labels(tmp_path, classifier):
    np.savez(tmp_path / "d.npz", x=X)
    assert load_data(str(tmp_path / "d.npz"), classifier).y is None


def test_npz_numbers_several_inputs_in_order(tmp_path, two_towers):
    arrays = {f"x{i}": np.full((3, 1), i) for i in (10, 2, 0, 1)}
    np.savez(tmp_path / "d.npz", **arrays)
    data = load_data(str(tmp_path / "d.npz"), two_towers)
    assert [int(array[0, 0]) for array in data.x] == [0, 1, 2, 10]


def test_npz_names_inputs_and_outputs(tmp_path, two_towers):
    y = np.ones((6, 1))
    np.savez(tmp_path / "d.npz", left=X, right=X[:, :2], price=y, rating=y)
    data = load_data(str(tmp_path / "d.npz"), two_towers)
    check_data(two_towers, data)
    assert (sorted(data.x), sorted(data.y)) == (["left", "right"], ["price", "rating"])


def test_npz_names_a_single_input(tmp_path, classifier):
    np.savez(tmp_path / "d.npz", features=X, y=Y)
    np.testing.assert_array_equal(load_data(str(tmp_path / "d.npz"), classifier).x, X)


def test_npz_with_other_names_is_refused(tmp_path, classifier):
    np.savez(tmp_path / "d.npz", pictures=X)
    line = refusal(load_data, str(tmp_path / "d.npz"), classifier)
    assert "holds 'pictures'" in line
    assert "'features'" in line


def test_npy_holds_x(tmp_path, classifier):
    np.save(tmp_path / "d.npy", X)
    data = load_data(str(tmp_path / "d.npy"), classifier)
    np.testing.assert_array_equal(data.x, X)
    assert (data.y, data.kind) == (None, "npy")


class Trap:
    """Unpickling it would create the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_pickled_objects_are_refused_and_not_run(tmp_path, classifier, name):
    objects = np.array([Trap(tmp_path / "marker")], dtype=object)
    if name == "d.npz":
        np.savez(tmp_path / name, x=objects)
    else:
        np.save(tmp_path / name, objects, allow_pickle=True)
    assert "Python objects" in refusal(load_data, str(tmp_path / name), classifier)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_a_bare_pickle_is_refused_and_not_run(tmp_path, classifier, name):
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "marker")))
    refusal(load_data, str(tmp_path / name), classifier)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.csv"])
def test_an_empty_file_is_refused(tmp_path, classifier, name):
    (tmp_path / name).touch()
    target = "y" if name == "d.csv" else None
    refusal(load_data, str(tmp_path / name), classifier, target=target)


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_a_truncated_file_is_refused(tmp_path, classifier, name):
    path = tmp_path / name
    np.savez(path, x=X, y=Y) if name == "d.npz" else np.save(path, X)
    path.write_bytes(path.read_bytes()[:150])
    assert "cut short" in refusal(load_data, str(path), classifier)


def test_a_damaged_member_is_refused(tmp_path, classifier):
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00garbage")
    refusal(load_data, str(tmp_path / "d.npz"), classifier)


# .csv


def csv(tmp_path: Path, text: str) -> str:
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_csv_splits_off_the_target(tmp_path, classifier):
    spec = csv(tmp_path, "a,label,b\n1,0,2.5\n3,1,4\n")
    data = load_data(spec, classifier, target="label")
    np.testing.assert_array_equal(data.x, [[1, 2.5], [3, 4]])
    np.testing.assert_array_equal(data.y, [0, 1])
    assert (data.x.dtype, data.y.dtype, data.kind) == (np.float32, np.int64, "csv")


def test_csv_keeps_a_fractional_target_as_numbers(tmp_path, classifier):
    data = load_data(csv(tmp_path, "a,y\n1,0.5\n2,1\n"), classifier, target="y")
    assert data.y.tolist() == [0.5, 1.0]


def test_csv_encodes_a_text_target_in_sorted_order(tmp_path, classifier):
    data = load_data(csv(tmp_path, "a,y\n1,dog\n2,cat\n3,dog\n"), classifier, target="y")
    assert data.y.tolist() == [1, 0, 1]
    assert "'cat'=0, 'dog'=1" in data.note


def test_csv_reads_missing_cells_as_nan(tmp_path, classifier):
    data = load_data(csv(tmp_path, "a,b,y\n1,,0\nNA,nan,1\n"), classifier, target="y")
    assert np.isnan(data.x).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_knows_other_delimiters(tmp_path, classifier, delimiter):
    text = "a,b,y\n1,2,0\n".replace(",", delimiter)
    assert load_data(csv(tmp_path, text), classifier, target="y").x.tolist() == [[1, 2]]


def test_csv_skips_a_byte_order_mark(tmp_path, classifier):
    assert load_data(csv(tmp_path, "\ufeffy,a\n0,2\n"), classifier, target="y").y.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,y\n1,red,0\n", "column 'b' is not numeric (data row 1 holds 'red')"),
        ("a,b,y\n1,2,0\n1,2\n", "data row 2: expected 3 cells"),
        ("a,y\n1,dog\n2,\n", "no label in data row 2"),
        ("y\n1\n", "no column but the target"),
    ],
)
def test_bad_csv_is_refused(tmp_path, classifier, text, expected):
    assert expected in refusal(load_data, csv(tmp_path, text), classifier, target="y")


def test_csv_that_is_not_text_is_refused(tmp_path, classifier):
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00\x81")
    refusal(load_data, str(tmp_path / "d.csv"), classifier, target="y")


def test_csv_with_a_header_alone_is_empty_data(tmp_path, classifier):
    data = load_data(csv(tmp_path, "a,b,c,d,y\n"), classifier, target="y")
    assert "empty" in refusal(check_data, classifier, data)


def test_csv_needs_a_target(tmp_path, classifier):
    line = refusal(load_data, csv(tmp_path, "a,b\n1,2\n"), classifier, error=UsageError)
    assert "columns 'a', 'b'" in line


def test_an_unknown_target_names_the_nearest_column(tmp_path, classifier):
    spec = csv(tmp_path, "a,label\n1,2\n")
    assert "'label'?" in refusal(load_data, spec, classifier, target="lable", error=UsageError)


def test_a_target_without_csv_is_refused(tmp_path, classifier):
    np.save(tmp_path / "d.npy", X)
    spec = str(tmp_path / "d.npy")
    assert ".csv" in refusal(load_data, spec, classifier, target="y", error=UsageError)


def test_arrays_that_are_not_used_are_named(tmp_path, classifier):
    np.savez(tmp_path / "d.npz", x=X, y=np.zeros(len(X)), sample_weight=np.ones(len(X)), z=X)
    assert load_data(str(tmp_path / "d.npz"), classifier).note == "not used: 'sample_weight', 'z'"


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["0", "1e300"], np.float64),
        (["0.5", "-1e300"], np.float64),
        (["0", str(2**52)], np.int64),
        (["0", str(2**60)], np.float32),
        (["0.5", "nan"], np.float32),
    ],
)
def test_labels_are_what_the_file_says(tmp_path, classifier, cells, dtype):
    (tmp_path / "d.csv").write_text("a,label\n" + "".join(f"1,{cell}\n" for cell in cells))
    y = load_data(str(tmp_path / "d.csv"), classifier, target="label").y
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([float(cell) for cell in cells]))


def test_an_absurd_label_is_shown_as_it_is(tmp_path, classifier):
    data = Data(np.zeros((2, 4), "float32"), np.array([0.0, 1e300]))
    line = refusal(check_data, classifier, data)
    assert "run from 0 to 1e+300. Expected 0 to 2" in line
    assert "Correct the labels." in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv"])
def test_a_fifo_is_refused_at_once(tmp_path, classifier, suffix):
    os.mkfifo(tmp_path / f"d{suffix}")
    target = "label" if suffix == ".csv" else None
    line = refusal(load_data, str(tmp_path / f"d{suffix}"), classifier, target=target)
    assert "is a FIFO. Expected a regular file" in line

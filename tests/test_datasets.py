"""Data from files, folders and factories, and the one line where it does not fit the model."""

from __future__ import annotations

import pickle
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradscope.datasets import Data, check_data, load_data
from gradscope.errors import GradscopeError, UnreadableError, UsageError

X = np.linspace(0, 1, 24, dtype="float32").reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    inputs = keras.Input((4,), name="features")
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="scores")(inputs))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def two_towers() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    outputs = [keras.layers.Dense(1, name=name)(joined) for name in ("price", "rating")]
    model = keras.Model([left, right], outputs)
    model.compile("adam", "mse")
    return model


@pytest.fixture(scope="module")
def image_model() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((8, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def refusal(action, *args, error: type[GradscopeError] = UnreadableError, **kwargs) -> str:
    """The one line with which `action` is refused."""
    with pytest.raises(error) as caught:
        action(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


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


# Folders


@pytest.mark.parametrize("batch", [None, 2])
def test_a_saved_dataset_comes_in_batches(tmp_path, classifier, batch):
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    dataset = dataset.batch(batch) if batch else dataset
    dataset.save(str(tmp_path / "d"))
    data = load_data(str(tmp_path / "d"), classifier, batch_size=3)
    check_data(classifier, data)
    assert next(iter(data.x))[0].shape == (batch or 3, 4)
    assert data.kind == "tf.data"


def test_a_batched_dataset_without_the_last_axis_stays_as_it_is():
    model = keras.Sequential([keras.Input((4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    from gradscope.datafolders import batched

    dataset = tf.data.Dataset.from_tensor_slices(X).batch(3)
    assert batched(dataset, model, 2) is dataset


@pytest.mark.parametrize("broken", ["dataset_spec.pb", "snapshot.metadata"])
def test_a_damaged_dataset_is_refused(tmp_path, classifier, broken):
    tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).save(str(tmp_path / "d"))
    (tmp_path / "d" / broken).write_bytes(b"damaged")

    def read_it():
        check_data(classifier, load_data(str(tmp_path / "d"), classifier))

    refusal(read_it)


def images(folder: Path, classes: tuple[str, ...], size=(10, 10)) -> str:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.full((*size, 3), 60 * number + i, dtype="uint8")
            (folder / name / f"{i}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return str(folder)


def test_images_take_size_and_colours_from_the_model(tmp_path, image_model):
    data = load_data(images(tmp_path / "d", ("a", "b", "c")), image_model)
    x, y = next(iter(data.x))
    check_data(image_model, data)
    assert x.shape == (6, 8, 6, 1)
    assert sorted(y.numpy().tolist()) == [0, 0, 1, 1, 2, 2]
    assert "8 x 6" in data.note


def test_images_are_one_hot_for_a_categorical_loss(tmp_path, image_model):
    folder = images(tmp_path / "d", ("a", "b", "c"))
    data = load_data(folder, image_model, loss="categorical_crossentropy")
    assert next(iter(data.x))[1].shape == (6, 3)


def test_images_are_binary_for_a_single_unit(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(1, "sigmoid"))
    data = load_data(images(tmp_path / "d", ("a", "b")), model)
    assert next(iter(data.x))[1].shape == (4, 1)


def test_more_classes_than_units_are_refused(tmp_path, image_model):
    folder = images(tmp_path / "d", ("a", "b", "c", "d"))
    line = refusal(load_data, folder, image_model)
    assert "4 class folders" in line
    assert "Expected 3" in line


def test_images_for_a_model_without_image_input_are_refused(tmp_path, classifier):
    folder = images(tmp_path / "d", ("a", "b", "c"))
    assert "(None, 4)" in refusal(load_data, folder, classifier)


def test_a_damaged_image_is_refused(tmp_path, image_model):
    folder = images(tmp_path / "d", ("a", "b", "c"))
    for path in Path(folder).glob("*/*.png"):
        path.write_bytes(b"no image")
    data = load_data(folder, image_model)
    assert "first batch" in refusal(check_data, image_model, data)


@pytest.mark.parametrize("subfolder", [None, "a"])
def test_a_folder_without_images_is_refused(tmp_path, image_model, subfolder):
    if subfolder:
        (tmp_path / subfolder).mkdir()
    refusal(load_data, str(tmp_path), image_model)


# Factories and the rest

FACTORY = """
import numpy as np, tensorflow as tf

def arrays():
    return np.zeros((5, 4)), np.zeros(5)

def dataset():
    return tf.data.Dataset.from_tensor_slices(arrays())

def nothing():
    return None
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "sourcing.py").write_text(FACTORY)
    yield
    sys.modules.pop("sourcing", None)


@pytest.mark.parametrize("name", ["arrays", "dataset"])
def test_a_factory_gives_data(factory, classifier, name):
    data = load_data(f"sourcing:{name}", classifier)
    check_data(classifier, data)
    assert data.kind == "factory"


def test_a_factory_of_something_else_is_refused(factory, classifier):
    assert "NoneType" in refusal(load_data, "sourcing:nothing", classifier)


def test_missing_data_names_its_neighbours(tmp_path, classifier):
    (tmp_path / "digits.npz").touch()
    assert "digits.npz" in refusal(load_data, str(tmp_path / "digit.npz"), classifier)


def test_an_unknown_extension_is_refused(tmp_path, classifier):
    (tmp_path / "d.parquet").touch()
    assert "'.parquet'" in refusal(load_data, str(tmp_path / "d.parquet"), classifier)


# Checks against the model


@pytest.mark.parametrize("x", [X, X.astype("float64"), [X], {"features": X}, tf.constant(X)])
@pytest.mark.parametrize("y", [None, Y, Y[:, None], Y.astype("float32"), Y.tolist(), [Y]])
def test_fitting_data_passes(classifier, x, y):
    check_data(classifier, Data(x, y))


def test_a_last_axis_of_one_may_be_missing_or_extra(classifier, image_model):
    check_data(image_model, Data(np.zeros((2, 8, 6))))
    check_data(classifier, Data(X[..., None]))


def test_open_axes_take_any_length():
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(2)])
    check_data(model, Data(np.zeros((2, 17, 4))))


def test_a_model_that_does_not_say_what_it_takes_accepts_any_shape():
    check_data(keras.Sequential([keras.layers.Dense(2)]), Data(X, Y))


def test_generators_are_left_alone(classifier):
    source = ((X, Y) for _ in range(1))
    check_data(classifier, Data(source))
    assert next(source)[0] is X


def test_text_fits_a_model_that_takes_text():
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, keras.layers.Hashing(5)(inputs))
    check_data(model, Data(np.array([["a b"], ["c"]])))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (np.zeros((6, 2, 2)), Y, "expected (None, 4) for input 'features', received (6, 2, 2)"),
        (np.zeros((6, 2, 2)), Y, "x.reshape(-1, 4)"),
        (np.zeros((6, 5)), Y, "received (6, 5)"),
        (np.zeros(()), None, "empty"),
        (np.zeros((0, 4)), None, "empty"),
        (np.full((6, 4), "a"), Y, "dtype <U1"),
        (np.full((6, 4), None), Y, "dtype object"),
        (np.zeros((6, 4), "complex64"), Y, "dtype complex64"),
        (np.zeros((6, 4), "datetime64[s]"), Y, "dtype datetime64[s]"),
        (X.tolist(), Y, "the data has 6"),
        ([X.tolist()], Y, "numpy.asarray"),
        ({"pixels": X}, Y, "nothing for the model's input 'features'"),
        (X, Y[:5], "6 for input 'features', 5 for the labels"),
        (X, Y + 1, "run from 1 to 3. Expected 0 to 2"),
        (X, Y + 1, "Subtract 1"),
        (X, Y - 1, "run from -1 to 1"),
        (X, 2 * Y, "Give the output 5 units"),
        (X, np.full(6, "cat"), "(the labels) has dtype <U3"),
        (X, [Y, Y], "The model has 1 output"),
    ],
)
def test_data_that_does_not_fit_is_refused(classifier, x, y, expected):
    assert expected in refusal(check_data, classifier, Data(x, y))


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (X, "The model has 2 inputs ('left', 'right'), the data has 1"),
        ([X], "The model has 2 inputs"),
        ({"left": X}, "nothing for the model's input 'right'"),
        ([X, X], "expected (None, 2) for input 'right'"),
        ([X, X[:3, :2]], "6 for input 'left', 3 for input 'right'"),
    ],
)
def test_data_for_several_inputs_is_checked_one_by_one(two_towers, x, expected):
    assert expected in refusal(check_data, two_towers, Data(x))


def test_labels_of_another_shape_are_refused(classifier):
    line = refusal(check_data, classifier, Data(X, np.zeros((6, 5))), loss="mse")
    assert "expected (None, 3) for output 'scores', received (6, 5)" in line


def test_an_ignored_class_is_in_range(classifier):
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    check_data(classifier, Data(X, Y - 1), loss=loss)


def test_the_labels_of_a_loss_instance_are_checked(classifier):
    loss = keras.losses.SparseCategoricalCrossentropy(name="mine")
    assert "Expected 0 to 2" in refusal(check_data, classifier, Data(X, Y + 1), loss=loss)


def test_not_a_number_is_left_to_the_examination(classifier):
    check_data(classifier, Data(np.full((6, 4), np.nan), np.full(6, np.nan)))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (X[:, :3], Y, "received (2, 3)"),
        (X, Y + 3, "Expected 0 to 2"),
        (X[:0], Y[:0], "empty"),
    ],
)
def test_the_first_batch_of_a_dataset_is_checked(classifier, x, y, expected):
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    assert expected in refusal(check_data, classifier, Data(dataset))

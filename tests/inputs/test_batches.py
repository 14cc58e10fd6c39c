"""Batches to examine on: sampled from arrays, read from data sets, or made up."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.errors import CannotExamineError, UnreadableError, UsageError
from gradscope.inputs.arrays import as_arrays, is_arrays
from gradscope.inputs.batches import take_batches
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot


def batches(x=None, y=None, model=None, batch_size=4, num_batches=3, seed=0, input_shape=None):
    return take_batches(
        model or keras.Sequential([layers.Dense(1)]),
        x,
        y,
        batch_size=batch_size,
        num_batches=num_batches,
        seed=seed,
        input_shape=input_shape,
    )


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples that hold their own number, and labels ten times that."""
    x = np.arange(count, dtype="float32")
    return x[:, None], 10 * x


def seen(found) -> list[float]:
    return [float(v) for b in found for v in np.ravel(b.x)]


# ---- arrays


def test_samples_are_drawn_without_replacement():
    found, card = batches(*numbered(20))

    assert len(set(seen(found))) == 12
    assert (card.kind, card.num_samples, card.num_batches) == ("arrays", 12, 3)


def test_labels_stay_with_their_samples():
    found, _ = batches(*numbered(20))

    for batch in found:
        np.testing.assert_array_equal(10 * batch.x[:, 0], batch.y)


def test_one_seed_draws_the_same_samples():
    assert seen(batches(*numbered(50))[0]) == seen(batches(*numbered(50))[0])


def test_another_seed_draws_others():
    assert seen(batches(*numbered(50))[0]) != seen(batches(*numbered(50), seed=1)[0])


def test_samples_come_from_the_whole_array():
    assert max(seen(batches(*numbered(1000))[0])) > 500


def test_the_last_batch_may_be_short():
    found, card = batches(*numbered(6))

    assert [len(b.x) for b in found] == [4, 2]
    assert card.num_samples == 6


@pytest.mark.parametrize(
    ("given", "expected"),
    [("float64", "float32"), ("float32", "float32"), ("int64", "int64"), ("uint8", "uint8")],
)
def test_dtypes_are_those_of_fit(given, expected):
    found, _ = batches(np.zeros((4, 2), given))

    assert found[0].x.dtype == expected


def test_a_structure_keeps_its_form():
    x = {"a": normal(8, 2), "b": [normal(8, 3), normal(8, 4)]}
    found, _ = batches(x, normal(8, 1))

    assert found[0].x["a"].shape == (4, 2)
    assert found[0].x["b"][1].shape == (4, 4)


def test_an_array_on_disk(tmp_path):
    held = np.memmap(tmp_path / "x.bin", "float32", "w+", shape=(20, 1))
    held[:] = numbered(20)[0]

    assert set(seen(batches(held)[0])) <= set(range(20))


def test_without_labels():
    assert batches(normal(8, 2))[0][0].y is None


def test_labels_may_be_a_plain_list():
    found, _ = batches(numbered(8)[0], list(range(0, 80, 10)))

    np.testing.assert_array_equal(10 * found[0].x[:, 0], found[0].y)


@pytest.mark.parametrize("labels", [7, 9])
def test_labels_of_another_length(labels):
    with pytest.raises(UnreadableError, match=f"Received: .*{labels}"):
        batches(normal(8, 2), normal(labels))


# ---- data sets and generators


def test_a_dataset_is_read_in_its_own_order():
    found, card = batches(tf.data.Dataset.from_tensor_slices(numbered(20)).batch(5))

    assert seen(found) == list(range(15))
    assert (card.kind, card.num_samples) == ("tf.data.Dataset", 15)


def test_an_endless_dataset():
    data = tf.data.Dataset.from_tensor_slices(numbered(4)).repeat().batch(4)

    assert len(batches(data)[0]) == 3


def test_sample_weights_are_kept():
    data = tf.data.Dataset.from_tensors((normal(4, 2), normal(4, 1), np.ones(4)))

    assert batches(data)[0][0].sample_weight.shape == (4,)


def test_a_generator_is_read_no_further_than_asked():
    source = ((normal(2, 1), normal(2, 1)) for _ in range(10))
    batches(source)

    assert len(list(source)) == 7


class Counting(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.asked = []

    def __len__(self):
        return 10

    def __getitem__(self, number):
        self.asked.append(number)
        return normal(2, 1), normal(2, 1)


def test_a_py_dataset_is_asked_for_what_is_needed_only():
    source = Counting()
    batches(source)

    assert source.asked == [0, 1, 2]


def test_labels_beside_a_dataset_without_any_are_used_whole():
    data = [normal(4, 2)]
    found, _ = batches(iter(data), normal(4, 1), num_batches=1)

    assert found[0].y.shape == (4, 1)


@pytest.mark.parametrize("given", [object(), lambda: None])
def test_what_cannot_be_read(given):
    with pytest.raises(UnreadableError, match="Cannot read batches from"):
        batches(given)


@pytest.mark.parametrize("given", [np.zeros((0, 3)), iter([]), Counting])
def test_nothing_to_read(given):
    empty = tf.data.Dataset.from_tensor_slices(numbered(0)).batch(2) if given is Counting else given

    with pytest.raises(UnreadableError, match="empty"):
        batches(empty)


def frame(**columns):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return pandas.DataFrame(columns or {"a": [0.0, 1.0, 2.0, 3.0], "b": [True, False, True, False]})


@pytest.mark.parametrize(
    "given",
    [
        lambda: frame(),
        lambda: frame().astype(object),
        lambda: np.array([[0.0, True], [1.0, False], [2.0, True], [3.0, False]], object),
        lambda: [[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]],
        lambda: pytest.importorskip("scipy.sparse").csr_matrix([[0, 1], [1, 0], [2, 1], [3, 0]]),
    ],
    ids=["frame", "frame of objects", "objects", "lists", "sparse matrix"],
)
def test_whatever_holds_numbers_is_read_as_an_array(given):
    array = as_arrays(given())

    np.testing.assert_array_equal(array, [[0, 1], [1, 0], [2, 1], [3, 0]])
    assert array.dtype.kind in "fi"
    assert is_arrays(given())


def test_pandas_objects_are_sampled_as_arrays_are():
    found, card = batches(frame(), frame()["a"])

    assert card.kind == "arrays"
    assert all((batch.x[:, 0] == batch.y).numpy().all() for batch in found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: frame(a=[1.0, 2.0], city=["Bonn", "Rome"]), "The column 'city' of the DataFrame"),
        (lambda: np.array([1.0, None], object), r"an array of objects \(NoneType\)"),
        (lambda: np.array([[1.0], [1.0, 2.0]], object), "differ in length"),
    ],
    ids=["text", "None", "ragged"],
)
def test_objects_that_are_no_numbers_are_named(given, message):
    with pytest.raises(UnreadableError, match=message):
        batches(given())


def test_a_data_set_that_is_not_batched():
    single = tf.data.Dataset.from_tensor_slices(numbered(4))

    with pytest.raises(UnreadableError, match=r"dataset\.batch\(32\)"):
        batches(single)


# ---- made up


def made_up(*specs, model=None):
    if model is None:
        model = keras.Model(list(specs), [layers.Identity()(s) for s in specs])
    found, card = batches(model=model)
    assert card.kind == "synthetic"
    return keras.tree.flatten(found[0].x)


def test_normal_numbers_of_the_shape_asked_for():
    (x,) = made_up(keras.Input((5, 2)))

    assert x.shape == (4, 5, 2)
    assert 0.5 < float(tf.math.reduce_std(x)) < 1.5


def test_open_dimensions_are_filled():
    series, image = made_up(keras.Input((None, 3)), keras.Input((None, None, 3)))

    assert series.shape == (4, 16, 3)
    assert image.shape == (4, 32, 32, 3)


def test_a_fixed_batch_size_is_kept():
    (x,) = made_up(keras.Input((2,), batch_size=7))

    assert x.shape == (7, 2)


@pytest.mark.parametrize("dtype", ["int32", "bool", "string", "float16"])
def test_dtypes_are_those_of_the_model(dtype):
    (x,) = made_up(keras.Input((3,), dtype=dtype))

    assert x.dtype == dtype


def test_tokens_stay_inside_the_vocabulary():
    x = keras.Input((50,))
    model = keras.Model(x, layers.Embedding(7, 2)(x))
    (tokens,) = made_up(model=model)

    assert set(np.unique(tokens)) == set(range(7))


def test_tokens_of_a_sequential_model():
    model = keras.Sequential([keras.Input((50,)), layers.Embedding(7, 2)])
    (tokens,) = made_up(model=model)

    assert float(tf.reduce_max(tokens)) <= 6
    assert float(tf.reduce_min(tokens)) >= 0


def test_inputs_by_name_stay_by_name():
    specs = {"a": keras.Input((2,), name="a"), "b": keras.Input((3,), name="b")}
    model = keras.Model(specs, layers.Concatenate()(list(specs.values())))
    found, _ = batches(model=model)

    assert {k: v.shape[1] for k, v in found[0].x.items()} == {"a": 2, "b": 3}


@pytest.mark.parametrize("make", [lambda: keras.Sequential([layers.Dense(1)]), keras.Model])
def test_a_model_that_does_not_say_what_it_takes(make):
    with pytest.raises(CannotExamineError, match="no input can be made up"):
        batches(model=make())


# ---- rows that are not finite


def test_rows_with_nan_are_left_out_where_others_are_left():
    x, y = normal(200, 8), normal(200, 1, seed=1)
    x[::4, 3] = np.nan
    y[1::4] = np.inf
    found, _ = batches(x, y, batch_size=32, num_batches=2, seed=0)

    assert all(np.isfinite(b.x).all() and np.isfinite(b.y).all() for b in found)
    assert sum(len(b.x) for b in found) == 64


def test_data_that_are_nan_throughout_are_read_as_they_are():
    x, y = np.full((40, 8), np.nan, "float32"), normal(40, 1)
    found, _ = batches(x, y, batch_size=32, num_batches=1, seed=0)

    assert len(found[0].x) == 32


def test_finite_rows_are_drawn_as_if_none_were_looked_at():
    x, y = normal(100, 8), normal(100, 1, seed=1)
    found, _ = batches(x, y, batch_size=10, num_batches=1, seed=5)
    rows = np.sort(np.random.default_rng(5).permutation(100)[:10])

    np.testing.assert_array_equal(found[0].x, x[rows])


def cropping(open_shape: tuple[int | None, ...], layer: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(open_shape), layer, layers.Dense(2)])


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (cropping((None, 4), layers.Cropping1D(3)), (32, 16, 4)),
        (cropping((None, 4), layers.Cropping1D(500)), (2, 1024, 4)),
        (cropping((None, None, 1), layers.Cropping2D(20)), (16, 64, 64, 1)),
        (cropping((None, 4), layers.Conv1D(2, 50)), (8, 64, 4)),
        (cropping((None, 4), layers.Reshape((7,))), (32, 16, 4)),  # no size would do
    ],
)
def test_made_up_inputs_are_as_large_as_the_model_asks(model, shape):
    before = Snapshot(model)
    found, _ = batches(model=model, batch_size=32, num_batches=1)
    assert found[0].x.shape == shape
    assert before.differences(Snapshot(model)) == []


# ---- made up in a shape that was asked for


def two_inputs() -> keras.Model:
    steps, rest = keras.Input((None, 4), name="steps"), keras.Input((3,), name="rest")
    return keras.Model([steps, rest], layers.Dense(1)(layers.Concatenate()([steps[:, 0], rest])))


def one_input() -> keras.Model:
    return keras.Sequential([keras.Input((None, 4)), layers.GRU(2)])


class OwnCode(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = layers.Dense(1)

    def call(self, x):
        return self.out(x)


@pytest.mark.parametrize(
    ("model", "input_shape", "expected"),
    [
        (one_input, (100, 4), [(4, 100, 4)]),
        (two_inputs, {"steps": (100, 4)}, [(4, 100, 4), (4, 3)]),
        (OwnCode, (7, 2), [(4, 7, 2)]),
    ],
)
def test_an_input_has_the_shape_that_was_asked_for(model, input_shape, expected):
    found, _ = batches(model=model(), input_shape=input_shape)

    assert [tuple(part.shape) for part in keras.tree.flatten(found[0].x)] == expected


@pytest.mark.parametrize(
    ("model", "input_shape", "message"),
    [
        (one_input, (100, 5), r"takes samples of shape \(None, 4\). Received: \(100, 5\)"),
        (one_input, (4,), r"Received: \(4,\)"),
        (one_input, (0, 4), r"Received: \(0, 4\)"),
        (two_inputs, (100, 4), "several inputs: name each shape. Expected 'steps', 'rest'"),
        (two_inputs, {"step": (100, 4)}, "no input 'step'. Expected one of: 'steps', 'rest'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(model, input_shape, message):
    with pytest.raises(UsageError, match=message):
        batches(model=model(), input_shape=input_shape)


def test_a_shape_beside_data_is_refused():
    with pytest.raises(UsageError, match="not both"):
        batches(*numbered(8), input_shape=(1,))

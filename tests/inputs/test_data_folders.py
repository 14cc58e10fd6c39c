"""Data sets from folders: saved `tf.data` data sets, and images in one folder a class."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradscope.inputs.data import check_data, load_data
from gradscope.inputs.data_folders import make_batches
from tests.support.data_files import X, Y
from tests.support.refusals import refusal


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
    dataset = tf.data.Dataset.from_tensor_slices(X).batch(3)
    assert make_batches(dataset, model, 2) is dataset


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

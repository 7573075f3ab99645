import os

import keras


def test_keras_runs_on_the_backend_of_the_environment_variable() -> None:
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"]

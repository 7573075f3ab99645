import os

import keras


def test_keras_runs_on_the_backend_that_this_process_was_started_for() -> None:
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"]

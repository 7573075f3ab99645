"""The demo succeeds, and it would fail if a step went wrong."""

import contextlib
import hashlib
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import keras3conv as k3c
from keras3conv.cli.commands import app
from keras3conv.demo import model, story, twin
from keras3conv.errors import Problem
from keras3conv.report.report import Report
from keras3conv.report.values import Section

pytestmark = pytest.mark.slow

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def trained() -> story.Trained:
    """Return a model trained for one epoch; the proofs do not depend on its accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "EPOCHS", 1)
        return story._train()


@dataclass(frozen=True, kw_only=True)
class Told:
    """A finished demo: whether it succeeded, its folder, what it printed, and the model that it trained."""

    ok: bool
    folder: Path
    printed: str
    trained: story.Trained


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder, printed, models = tmp_path_factory.mktemp("demo") / "new" / "folder", io.StringIO(), list[story.Trained]()
    train = story._train

    def recorded() -> story.Trained:
        models.append(train())
        return models[-1]

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(story, "_train", recorded)
        ok = story.tell(folder)
    (trained,) = models
    return Told(ok=ok, folder=folder, printed=printed.getvalue(), trained=trained)


def test_the_demo_passes_all_proofs_and_writes_its_files(told: Told) -> None:
    assert told.ok
    folder, printed = told.folder, told.printed
    assert "Fix:  nn.ZeroPad2d((0, 1, 0, 1))  # torch: before stages.0.first.0" in printed
    assert f'k3c.convert("{folder / "digits.keras"}")' in printed
    assert f"python -m webbrowser {(folder / 'torch' / 'report.html').as_uri()}" in printed
    assert "All predictions are equal." in printed
    # The lines of the certificate in the README that are the same on every machine.
    for line in README.read_text().splitlines():
        if line.startswith(("  passed   structure", "  passed   roundtrip")):
            assert line in printed
    for name in ("weights.safetensors", "model.py", "report.html"):
        content = (folder / "torch" / name).read_bytes()
        assert f"{folder / 'torch' / name}  {len(content):,} bytes" in printed
        assert hashlib.sha256(content).hexdigest() in printed


def test_the_trained_model_is_accurate(told: Told) -> None:
    trained = told.trained
    predictions = model.predict(trained.model, trained.held_out.images).argmax(-1)
    assert (predictions == trained.held_out.labels).mean() > 0.9


def test_the_demo_fails_if_the_planted_mistake_is_not_detected(
    trained: story.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = k3c.convert(trained.model, validate=False).model
    monkeypatch.setattr(twin, "DigitsNet", lambda: right)
    assert not story._show_the_mistake(trained)


def test_the_demo_fails_if_a_proof_fails(
    trained: story.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Section(name="float64", status="failed", claim="", summary="", problems=(Problem(fact="differs"),))
    convert = k3c.convert
    monkeypatch.setattr(
        k3c,
        "convert",
        lambda path: replace(convert(path, validate=False), report=Report(title="t", sections=(failed,))),
    )
    _, proven = story._convert(trained, tmp_path)
    assert not proven


def test_the_demo_fails_if_the_predictions_differ(trained: story.Trained) -> None:
    assert not story._compare_predictions(trained, twin.DigitsNet())


def test_the_program_starts_the_demo_without_log_lines_of_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setattr(story, "tell", lambda folder: os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3")
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0

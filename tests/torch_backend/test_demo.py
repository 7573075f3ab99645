"""The demo: its story comes out right, and it would notice if it did not."""

import hashlib
from pathlib import Path

import pytest

from keras3conv.demo import model, story, twin

pytestmark = pytest.mark.slow

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def cast() -> story.Cast:
    """A model after a single epoch: what is proven does not depend on how well it reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "EPOCHS", 1)
        return story._train()


def test_the_demo_proves_what_it_promises_and_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    assert story.tell(folder)
    printed = capsys.readouterr().out
    assert "Fix:  x = F.pad(x, (0, 1, 0, 1))  # before stages.0.first.0, with padding=0" in printed
    assert "12 pairs, 0 not confirmed" in printed
    assert "Every digit is read alike." in printed
    # What the README shows of the certificate, as far as it is the same on every machine.
    for line in README.read_text().splitlines():
        if line.startswith(("  passed   structure", "  passed   roundtrip")):
            assert line in printed
    for name in ("digits.safetensors", "certificate.html"):
        content = (folder / name).read_bytes()
        assert f"{folder / name}  {len(content):,} bytes" in printed
        assert hashlib.sha256(content).hexdigest() in printed


def test_the_trained_model_reads_digits() -> None:
    trained = story._train()
    read = model.predict(trained.trained, trained.held_out.images).argmax(-1)
    assert (read == trained.held_out.labels).mean() > 0.9


def test_the_demo_fails_where_the_mistake_goes_unnoticed(cast: story.Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    right = twin.DigitsNet
    monkeypatch.setattr(twin, "DigitsNet", lambda naive: right())
    assert not story._show_the_mistake(cast)


def test_the_demo_fails_where_the_twin_is_another_model(
    cast: story.Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twin, "KERAS_EPSILON", 1e-5)
    _, proven = story._convert(cast, tmp_path)
    assert not proven


def test_the_demo_fails_where_the_digits_are_read_differently(cast: story.Cast) -> None:
    assert not story._compare_scores(cast, twin.DigitsNet())

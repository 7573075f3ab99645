"""What `verify` and a folder offer: the files that fit, and no line that would write over what the user has."""

from pathlib import Path

from tests.support.cli_runs import assert_refused, run


def test_a_file_without_a_manifest_is_not_to_be_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    path.write_bytes(b"some bytes")
    refused = run("verify", path)
    assert_refused(refused, "small.safetensors.manifest.json cannot be read", "ask for it where the file comes from")
    assert "Fix:" not in refused.stderr


def test_a_folder_without_metadata_names_the_manifests_in_it(tmp_path: Path) -> None:
    assert "Fix:" not in run("verify", tmp_path).stderr
    (tmp_path / "a.pt.manifest.json").write_text("{}")
    refused = run("verify", tmp_path)
    assert_refused(refused, "it has no metadata.json", f"Fix:  keras3conv verify {tmp_path / 'a.pt.manifest.json'}")


def test_the_folder_of_a_conversion_offers_the_file_with_an_architecture(tmp_path: Path) -> None:
    for name in ("model.keras", "model.weights.h5", "other.weights.h5"):
        (tmp_path / name).write_bytes(b"")
    refused = run("inspect", tmp_path)
    assert_refused(refused, f"Fix:  {tmp_path / 'model.keras'}     or     {tmp_path / 'other.weights.h5'}")

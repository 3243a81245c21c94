from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.checkpoints import MANIFEST_NAME, PARTS, Manifest, verify_checkpoint, write_manifest
from model.errors import CheckpointError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with every part; the check looks at bytes, not at what they mean."""
    for part in PARTS:
        path = tmp_path / part
        if "." in part:
            path.write_text("{}")
        else:
            path.mkdir()
            (path / "weights.safetensors").write_bytes(part.encode())
    (tmp_path / "README.md").write_text("the model card")
    write_manifest(tmp_path, model_name="tiny", version="1.2")
    return tmp_path


def test_an_untouched_checkpoint_is_accepted_with_name_and_version(checkpoint: Path) -> None:
    manifest = verify_checkpoint(checkpoint)
    assert (manifest.model_name, manifest.version) == ("tiny", "1.2")
    assert len(manifest.files) == len(PARTS)
    assert "tiny 1.2" in str(manifest) and manifest.weights_sha256[:12] in str(manifest)


def test_an_altered_byte_is_found_and_named(checkpoint: Path) -> None:
    file = checkpoint / "unet" / "weights.safetensors"
    before = verify_checkpoint(checkpoint).files["unet/weights.safetensors"]
    file.write_bytes(b"unfit")
    with pytest.raises(CheckpointError) as caught:
        verify_checkpoint(checkpoint)
    message = str(caught.value)
    assert str(file) in message and before in message and "altered" in message


def test_a_missing_file_is_named(checkpoint: Path) -> None:
    file = checkpoint / "autoencoder" / "weights.safetensors"
    file.unlink()
    with pytest.raises(CheckpointError, match="is missing") as caught:
        verify_checkpoint(checkpoint)
    assert str(file) in str(caught.value)


def test_a_manifest_without_a_part_is_refused(checkpoint: Path) -> None:
    (checkpoint / "reference_encoder" / "weights.safetensors").unlink()
    write_manifest(checkpoint, model_name="tiny", version="1.2")
    with pytest.raises(CheckpointError, match="lists nothing of reference_encoder"):
        verify_checkpoint(checkpoint)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not a folder"):
        verify_checkpoint(tmp_path / "nowhere")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"has no {MANIFEST_NAME}"):
        verify_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "is not a manifest"),
        ("[]", "is not a manifest"),
        ('{"format": 1, "model_name": "a", "version": "1"}', "is not a manifest"),
        ('{"format": 9, "model_name": "a", "version": "1", "files": {}}', "has format 9"),
        (
            '{"format": 1, "model_name": "a", "version": "1", "files": {"../key": "0"}}',
            "lies outside",
        ),
    ],
)
def test_a_broken_manifest_is_refused(checkpoint: Path, text: str, said: str) -> None:
    (checkpoint / MANIFEST_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=said):
        verify_checkpoint(checkpoint)


def test_the_digest_follows_the_files_and_not_the_model_card(checkpoint: Path) -> None:
    def digest() -> str:
        return write_manifest(checkpoint, model_name="tiny", version="1.2").weights_sha256

    first = digest()
    (checkpoint / "README.md").write_text("a better model card")
    assert digest() == first == verify_checkpoint(checkpoint).weights_sha256
    (checkpoint / "unet" / "weights.safetensors").write_bytes(b"other")
    assert digest() != first


def test_the_digest_does_not_depend_on_the_order_of_files(checkpoint: Path) -> None:
    manifest = verify_checkpoint(checkpoint)
    turned = dict(reversed(manifest.files.items()))
    assert Manifest(checkpoint, "tiny", "1.2", turned, 0).weights_sha256 == manifest.weights_sha256
    recorded = json.loads((checkpoint / MANIFEST_NAME).read_text())["weights_sha256"]
    assert recorded == manifest.weights_sha256

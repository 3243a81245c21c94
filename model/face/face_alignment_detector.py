"""The second detector: the package face-alignment (S3FD boxes, FAN landmarks), without surprises.

The package loads its weights from the network at first use and compiles its networks. Here the
weights come from a folder (or the package's own cache), are read as plain tensors only, and nothing
is downloaded unless asked for.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from model.errors import CheckpointError, MissingDependencyError
from model.face.detection import DetectedFace

# What torch.load and load_state_dict raise on something else than a state dict.
_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
FAN_STACKS = 4  # hourglasses of the 2D network that the package publishes


@dataclass(frozen=True)
class FaceAlignmentWeights:
    """The two files that the detector needs."""

    landmarks: Path
    boxes: Path


def find_weights(
    weights_dir: str | os.PathLike[str] | None = None, *, allow_download: bool = False
) -> FaceAlignmentWeights:
    """Locate the weights under the names that the installed package gives them.

    Args:
        weights_dir: Folder of the files; None means the package's cache (torch.hub's checkpoints).
        allow_download: Fetch absent files from where the package's authors publish them.

    Raises:
        MissingDependencyError: The package or a file is absent; names files and addresses.
    """
    urls = _published_weights()
    if weights_dir is None:
        import torch

        folder = Path(torch.hub.get_dir()) / "checkpoints"
    else:
        folder = Path(weights_dir)
    paths = {kind: folder / Path(urlparse(url).path).name for kind, url in urls.items()}
    absent = {kind: path for kind, path in paths.items() if not path.is_file()}
    if absent and allow_download:
        for kind, path in absent.items():
            _download(urls[kind], path)
    elif absent:
        wanted = "; ".join(f"{path.name} from {urls[kind]}" for kind, path in absent.items())
        raise MissingDependencyError(
            f"face-alignment's weights are not in {folder}. Put there: {wanted}"
        )
    return FaceAlignmentWeights(landmarks=paths["landmarks"], boxes=paths["boxes"])


class FaceAlignmentDetector:
    """S3FD finds the faces, FAN their 68 points: slower than MediaPipe, steadier in profile.

    Args:
        weights_dir: Folder of the two weight files; None means the package's cache.
        device: cpu, cuda or cuda:N.
        allow_download: Fetch absent weights instead of failing.
        min_confidence: Boxes with a lower score are dropped, 0 to 1.

    Raises:
        MissingDependencyError: The package or its weights are absent.
        CheckpointError: A weight file is damaged, of another network, or holds more than tensors.
    """

    def __init__(
        self,
        weights_dir: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        *,
        allow_download: bool = False,
        min_confidence: float = 0.5,
    ) -> None:
        weights = find_weights(weights_dir, allow_download=allow_download)
        self._finder = _build_box_finder(weights.boxes, device, min_confidence)
        self._network = _build_landmark_finder(weights.landmarks, device, self._finder)

    def __call__(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """Find the faces of `image` `(H, W, 3)` uint8 RGB, largest first."""
        picture = np.ascontiguousarray(image)
        boxes = [np.asarray(box) for box in self._finder.detect_from_image(picture)]
        if not boxes:
            return []
        found = self._network.get_landmarks_from_image(picture, detected_faces=boxes)
        faces = [
            DetectedFace.from_landmarks(np.asarray(points, np.float32), float(box[4]))
            for points, box in zip(found, boxes, strict=True)
        ]
        return sorted(faces, key=lambda face: face.size_px, reverse=True)


def _published_weights() -> dict[str, str]:
    """Where the installed package gets its weights from: the file names are in the addresses."""
    try:
        from face_alignment.api import models_urls as landmark_urls
        from face_alignment.detection.sfd.sfd_detector import models_urls as box_urls
    except ImportError as error:
        raise MissingDependencyError(
            "face-alignment is not installed. Install it as `make install` does "
            "(requirements/no-deps.txt)"
        ) from error
    return {"landmarks": str(landmark_urls[f"2DFAN-{FAN_STACKS}"]), "boxes": str(box_urls["s3fd"])}


def _download(url: str, path: Path) -> None:
    from torch.hub import HASH_REGEX, download_url_to_file

    digest = HASH_REGEX.search(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Fetched beside, compared with the digest in the name, then renamed into place.
        download_url_to_file(url, str(path), digest[1] if digest else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise MissingDependencyError(f"cannot download {url}: {error}") from error


def _build_box_finder(weights: Path, device: str, min_confidence: float) -> Any:
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.detection.sfd.sfd_detector import SFDDetector

    class LocalSFDDetector(SFDDetector):
        """The package's detector without its way of loading, which may use the network."""

        def __init__(self) -> None:
            self.device = device
            self.verbose = False
            self.filter_threshold = min_confidence
            self.face_detector = _load_network(s3fd(), weights, device)

    return LocalSFDDetector()


def _build_landmark_finder(weights: Path, device: str, finder: Any) -> Any:
    import torch
    from face_alignment.api import FaceAlignment, LandmarksType
    from face_alignment.models import FAN

    class LocalFaceAlignment(FaceAlignment):
        """The package's pipeline without its way of loading and without torch.compile."""

        def __init__(self) -> None:
            self.device = device
            self.dtype = torch.float32
            self.flip_input = True
            self.landmarks_type = LandmarksType.TWO_D
            self.verbose = False
            self.max_batch_size = 1
            self.face_detector = finder
            self.face_alignment_net = _load_network(FAN(FAN_STACKS), weights, device)

    return LocalFaceAlignment()


def _load_network(network: Any, weights: Path, device: str) -> Any:
    """Fill `network` from a state dict; the file may hold tensors and nothing that runs code."""
    import torch

    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, *_MALFORMED) as error:
        raise CheckpointError(
            f"{weights.name} is not a state dict of face-alignment's {type(network).__name__}: "
            f"{str(error).splitlines()[0]}. Fetch it again"
        ) from error
    return network.to(device).eval()

"""Everything that `model` raises on purpose.

    ModelError
    ├── InputError                  the caller's picture, sound or option is at fault
    │   ├── UnsupportedMediaError   not decodable as the medium it should be
    │   ├── NoFaceError             no face found
    │   ├── FaceTooSmallError       the face has too few pixels
    │   ├── FaceTurnedAwayError     the head looks too far aside
    │   ├── MouthNotVisibleError    something hides the mouth, or there is none
    │   ├── FaceIndexError          `face_index` points past the last face
    │   ├── AudioTooShortError
    │   └── AudioTooLongError
    ├── ConfigError                 a training run's setting is unknown or of the wrong type
    ├── ShapeError                  an array or tensor has the wrong shape
    ├── CheckpointError             weights are absent, incomplete or altered
    ├── MissingDependencyError      an optional package or its data is not installed
    ├── EncodingError               ffmpeg could not write or read a medium of ours
    └── SamplingError               the sampler produced non-finite values, also in fp32

A message says what, got, expected and what to do. No HTTP status lives here: `worker.failures` maps these classes
to error codes and `service.problems` maps codes to statuses.
"""

from __future__ import annotations


class ModelError(Exception):
    """Root of this tree."""


class InputError(ModelError):
    """The caller's input cannot be used; trying again with the same input is pointless."""


class UnsupportedMediaError(InputError):
    """A file is not decodable as the medium that it should be."""


class NoFaceError(InputError):
    """No face was found in the picture."""


class FaceTooSmallError(InputError):
    """The chosen face has too few pixels to be animated."""


class FaceTurnedAwayError(InputError):
    """The chosen face looks so far aside that half of its mouth is hidden."""


class MouthNotVisibleError(InputError):
    """No mouth can be made out in the chosen face."""


class FaceIndexError(InputError):
    """`face_index` is not below the number of faces found."""


class AudioTooShortError(InputError):
    """The sound is shorter than the shortest that can be animated."""


class AudioTooLongError(InputError):
    """The sound is longer than the limit."""


class ConfigError(ModelError):
    """A training run's setting is unknown, of the wrong type or impossible on this machine."""


class ShapeError(ModelError):
    """An array or tensor does not have the documented shape."""


class CheckpointError(ModelError):
    """Weights are absent, incomplete, altered or of another architecture."""


class MissingDependencyError(ModelError):
    """An optional package, or a file that it needs, is not installed."""


class EncodingError(ModelError):
    """ffmpeg failed on a file of ours."""


class SamplingError(ModelError):
    """The sampler produced non-finite values and went on doing so in fp32."""

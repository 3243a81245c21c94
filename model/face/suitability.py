"""Which faces can be drawn: a mouth that is seen, on a head that does not look away.

A mesh of a face is complete whatever the camera saw of it. What it guesses behind a hand, a mask or a nose is drawn
as a smear, so such a picture is refused with the reason.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import FaceTurnedAwayError, MouthNotVisibleError
from model.face.head_angles import head_angles
from model.face.mouth_visibility import mouth_visibility

MOST_YAW: Final = 45.0
"""Degrees to the side up to which both corners of a mouth are seen."""
_ASIDE: Final = 25.0
"""Degrees from which the turn is the likely reason why no whole mouth is seen."""


def check_suitable(
    image: NDArray[np.uint8], landmarks: NDArray[np.float32], what: str = "picture"
) -> None:
    """Refuse a face that could only be drawn badly.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        landmarks: The chosen face `(68, 2)`, pixels.
        what: It shows the face; for the message.
    Raises:
        FaceTurnedAwayError: The head looks too far aside.
        MouthNotVisibleError: Something hides the mouth, or it is none of a person on a photograph.
    """
    yaw, _ = head_angles(landmarks)
    is_seen = mouth_visibility(image, landmarks) >= 0.0
    if abs(yaw) > MOST_YAW or (not is_seen and abs(yaw) > _ASIDE):
        raise FaceTurnedAwayError(
            f"The face in the {what} looks about {abs(yaw):.0f} degrees aside; expected at most "
            f"{MOST_YAW:.0f}, with the whole mouth in sight. Send one in which the person looks towards "
            "the camera, or check_face=false to have this one drawn as well as it can be."
        )
    if not is_seen:
        raise MouthNotVisibleError(
            f"No mouth can be made out in the face in the {what}: a hand, a mask, hair or a thing covers it, it is "
            "blurred away, or this is an animal or a drawing; expected a person's uncovered mouth. Send "
            "another one, or check_face=false to have this one drawn as well as it can be."
        )

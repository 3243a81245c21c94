"""What a caller may choose is what the pipeline takes."""

from __future__ import annotations

import inspect

import pytest

from model.pipelines.talking_face import TalkingFacePipeline
from worker.contract.messages import SamplingOptions


@pytest.mark.parametrize("name", ["prepare", "prepare_video"])
def test_every_option_is_an_argument_of_the_pipeline(name: str) -> None:
    arguments = set(inspect.signature(getattr(TalkingFacePipeline, name)).parameters)

    assert {*SamplingOptions.model_fields, "references", "on_stage"} <= arguments

"""What a caller may choose is what the pipeline takes."""

from __future__ import annotations

import dataclasses

from model.pipelines.options import RenderOptions
from worker.contract.messages import INTAKE_OPTIONS, SamplingOptions


def test_every_option_of_a_caller_is_one_of_the_pipeline() -> None:
    options = {field.name for field in dataclasses.fields(RenderOptions)}

    assert options >= {*SamplingOptions.model_fields} - INTAKE_OPTIONS
    chosen = SamplingOptions().model_dump(exclude=set(INTAKE_OPTIONS))
    assert RenderOptions(**chosen).preset == SamplingOptions().preset

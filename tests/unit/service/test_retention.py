"""How long a result is kept: as asked for, within what is allowed."""

from __future__ import annotations

import pytest

from service.problems import ProblemError
from service.retention import retention_of
from service.security import Principal
from service.settings import ServiceSettings
from worker.contract.errors import ErrorCode


@pytest.mark.parametrize(
    ("deployment_s", "key_s", "asked_s", "kept_s"),
    [
        (100.0, None, None, 100.0),
        (100.0, None, 100, 100.0),
        (100.0, None, 1, 1.0),
        (100.0, 50.0, None, 50.0),
        (100.0, 50.0, 50, 50.0),
        (100.0, 200.0, 150, 150.0),
        (0.0, None, None, None),
        (0.0, None, 10**9, 1e9),
        (0.0, 50.0, None, 50.0),
        (100.0, 0.0, None, None),
    ],
)
def test_a_result_is_kept_as_long_as_asked_for(
    deployment_s: float, key_s: float | None, asked_s: int | None, kept_s: float | None
) -> None:
    principal = Principal(id="me", scopes=frozenset(), retention_s=key_s)

    assert retention_of(principal, asked_s, ServiceSettings(retention_s=deployment_s)) == kept_s


@pytest.mark.parametrize(
    ("deployment_s", "key_s", "most"), [(100.0, None, "100 s here"), (0.0, 50.0, "50 s with")]
)
def test_longer_than_allowed_is_refused_with_the_figures(
    deployment_s: float, key_s: float | None, most: str
) -> None:
    principal = Principal(id="me", scopes=frozenset(), retention_s=key_s)

    with pytest.raises(ProblemError) as refused:
        retention_of(principal, 101, ServiceSettings(retention_s=deployment_s))

    assert refused.value.code is ErrorCode.INVALID_OPTIONS
    assert "101 s were asked for" in refused.value.detail and most in refused.value.detail
    assert [error.field for error in refused.value.errors] == ["retention_s"]

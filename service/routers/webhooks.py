"""Webhooks for those who receive them: the secret that they verify with, and another delivery."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from service.dependencies import JobViewsDep, ResourcesDep, WriterDep
from service.problems import ProblemError, problem_responses
from service.schemas.job import JobPublic
from service.secret_file import InstallSecret
from service.webhooks import webhook_secret
from worker.contract.errors import ErrorCode

router = APIRouter(prefix="/v1", tags=["webhooks"])


class WebhookSecret(BaseModel):
    """`GET /v1/webhook-secret`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"object": "webhook_secret", "secret": "whsec_" + "C2FtcGxl" * 5 + "C2E="}]
        }
    )

    object: Literal["webhook_secret"] = "webhook_secret"
    secret: str = Field(
        description="For any Standard Webhooks library; the same for all keys that share jobs."
    )


@router.get(
    "/webhook-secret",
    summary="What your webhooks are signed with",
    responses=problem_responses(),
)
def get_webhook_secret(
    response: Response, principal: WriterDep, resources: ResourcesDep
) -> WebhookSecret:
    """The caller's own secret; where no key is needed, that of whoever runs the service."""
    if principal.is_shared:
        raise ProblemError(
            ErrorCode.FORBIDDEN,
            "Strangers share one secret, so it would prove nothing. Ask the operator for a key.",
        )
    response.headers["Cache-Control"] = "no-store"
    secret = InstallSecret(resources.settings.secret_path)
    return WebhookSecret(secret=webhook_secret(secret, principal.id))


@router.post(
    "/jobs/{job_id}/webhook",
    status_code=202,
    summary="Send a job's webhook once more",
    responses={
        202: {"description": "It is sent within seconds, and tried again as the first time"},
        **problem_responses("job_not_found", "webhook_not_available"),
    },
)
def redeliver_webhook(
    job_id: Annotated[str, Path(description="The `id` of a job.")],
    response: Response,
    principal: WriterDep,
    views: JobViewsDep,
    resources: ResourcesDep,
) -> JobPublic:
    """The event has the id that it had, so that a receiver knows it."""
    record = views.find(job_id, principal)
    if not resources.outbox.redeliver(job_id):
        words = (
            "The job has no callback_url; nobody is to be told."
            if record.callback_url is None
            else f"The job is {record.state.value}; its webhook is sent when it has ended."
        )
        raise ProblemError(
            ErrorCode.WEBHOOK_NOT_AVAILABLE, words, params={"state": record.state.value}
        )
    response.headers["Cache-Control"] = "no-store"
    return views.public(views.find(job_id, principal))

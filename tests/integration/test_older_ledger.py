"""A ledger that was restored from an older copy than its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.conftest import StartWorker, eventually
from tests.integration.test_ledger import FAILURE, RESULT
from worker.contract.artifact_folder import FolderStore
from worker.contract.ending import media_names, write_ending
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.messages import JobState
from worker.contract.results import FinishedRender


@pytest.mark.parametrize("kept", ["video", "failure", "cancelled", "nothing"])
def test_a_job_of_an_older_ledger_ends_as_it_had(
    kept: str,
    client: TestClient,
    ledger: Ledger,
    data_dir: Path,
    post: Callable[..., str],
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    """As after a restore: the files were copied after the job's end, Redis before it."""
    store = FolderStore(data_dir)
    job_id = post()
    record = ledger.get(job_id)
    assert record is not None
    for name in media_names(store, job_id):
        store.delete(f"inputs/{job_id}/{name}")
    if kept == "video":
        key = f"results/{job_id}/earlier.mp4"
        result = RESULT.model_copy(update={"key": key, "bytes": 3})
        finished = FinishedRender(result=result, timings_s={"generating": 1.0})
        for path, text in ((key, "mp4"), (FinishedRender.key_of(key), finished.model_dump_json())):
            (tmp_path / "file").write_text(text)
            store.put(path, tmp_path / "file")
    elif kept != "nothing":
        state = JobState.FAILED if kept == "failure" else JobState.CANCELLED
        failure = FAILURE if kept == "failure" else None
        write_ending(store, record.model_copy(update={"state": state, "failure": failure}))

    start_worker()

    eventually(lambda: ledger.has_ended(job_id), "the job ends")
    ended = ledger.get(job_id)
    assert ended is not None and ended.attempt == 1
    if kept == "video":
        assert client.get(f"/v1/jobs/{job_id}/content").content == b"mp4"
    elif kept == "cancelled":
        assert ended.state is JobState.CANCELLED
    else:
        assert ended.failure is not None
        expected = FAILURE.code if kept == "failure" else ErrorCode.MODEL_ERROR
        assert ended.failure.code is expected

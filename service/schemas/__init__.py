"""HTTP shapes only; the stored truth is `worker.contract.messages.JobRecord`."""

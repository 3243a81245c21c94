"""The command line: the one place that puts service, worker and model together."""

"""The process that renders: one per accelerator, with a warm pipeline.

`worker.contract` is what it shares with the service.
"""

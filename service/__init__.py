"""The HTTP process: accepts jobs, tells how they stand, hands out videos.

It imports `worker.contract` and nothing else of ours, hence neither torch nor numpy.
"""

"""What the service and the worker share: messages, codes, ledger, artifact store, intake.

Nothing here imports torch, numpy or the model, and this file imports nothing at all: the decoder
child starts through it and must be up within a few hundredths of a second.
"""

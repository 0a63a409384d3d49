"""Losses: one per file, each a pure function with its formula, units and source.

All average over the known pixels of each sample, then over the samples of the batch, those without a known pixel
counting
as zero: so the loss of a batch is the mean of the losses of its parts, however it is divided between processes.
"""

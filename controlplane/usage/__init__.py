"""Metering: spans of time, traffic, usage records, their schedule and their sanity (guide: chapter 14).

Rows -> spans   ``recorder`` notes, in the transaction that changes a metered row, from when to when it was what.
Routers -> samples   ``traffic`` takes in the totals of routers' counters, each byte once.
Both -> records   ``aggregation`` makes the records of one stretch of time after the other, ``schedule`` says when.
"""

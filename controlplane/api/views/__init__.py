"""Answers: one module for each kind of resource, with its response model and the function that fills it from rows.

A ``show_*`` function takes many rows and reads what belongs to them in a few queries, whatever their number.
"""

"""One module for each subject: ``ORDER`` (its place in the table) and ``measure(quick)``, a generator of Figures.

The first line of a module's docstring is shown while it runs.
"""

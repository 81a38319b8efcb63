"""
The command line: ``serve``, ``demo``, and the office work on keys, quotas, usage and models.

Whatever goes wrong is one line on standard error, and exit code 2 for a configuration, 1 for anything else.
"""

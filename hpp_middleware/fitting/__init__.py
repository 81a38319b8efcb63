"""
Fitting the learned policy to an installation's own outcomes; imported by the command line only.

Raises ConfigurationError where the extra ``fit`` (numpy) is not installed.
"""

from hpp_middleware.errors import ConfigurationError

try:
    from hpp_middleware.fitting.fit import Row, fit, read_rows
    from hpp_middleware.fitting.report import FitReport, Refused, Rival
except ModuleNotFoundError as error:
    if error.name != "numpy":
        raise
    raise ConfigurationError("fitting needs numpy: pip install 'hpp_middleware[fit]'") from error

__all__ = ["FitReport", "Refused", "Rival", "Row", "fit", "read_rows"]

"""Faults, one by one, at each position: what the client sees, what is charged, what is retried."""

import pytest

pytest.register_assert_rewrite("chaos.checks")

"""Settle: the hold becomes a charge, once, whether the store answers or not; and an answer that may be given again."""

"""What carries a request out: one exchange with a model, or several, under one hold and one ledger entry."""

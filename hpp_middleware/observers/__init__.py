"""Who is told what happened: logging here; others come as extras."""

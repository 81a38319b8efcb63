"""Every client before every dialect, feature by feature."""

"""What was once broken, by attack: each test fails without its mend."""

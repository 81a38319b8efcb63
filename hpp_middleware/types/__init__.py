"""Frozen nouns: what the stages hand to each other. Nothing here decides or acts."""

"""What clients speak: each API as pure values in, values out, like the dialects that providers speak."""

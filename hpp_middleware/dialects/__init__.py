"""What providers speak, as pure values in, values out: no sockets, no clock."""

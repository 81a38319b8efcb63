"""Reserve: the hold that stands before anything is sent, what it has to fit in, and the lease that covers it."""

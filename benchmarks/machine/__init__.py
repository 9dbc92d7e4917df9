"""A whole venue in one process, without sockets or sleep, for random tests of the gateway."""

"""A whole venue in one process, without sockets and sleep: what random tests of the gateway drive."""

"""What runs in a process of its own behind Ray Serve, each with no more than it needs."""

"""Who may ask a service, and how strictly it listens: shared by serving and gateway."""

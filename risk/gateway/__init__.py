"""The only way to the broker: checks, ledger, permission and recovery, in a process of its own."""

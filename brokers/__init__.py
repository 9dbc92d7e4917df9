"""Adapters of brokers to the gateway's protocol, and an exchange that runs on this machine."""

"""From the outbox to the web app: sent over the relay, acknowledged, retried or parked (design §3.8)."""

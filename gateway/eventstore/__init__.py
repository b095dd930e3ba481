"""The durable log on SQLite: one file, WAL, synchronous=FULL, inline projections, a hash chain (design §3.1-3.6)."""

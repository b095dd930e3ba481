"""Read models. Each is one module: its table, an `apply` that writes an event into it, and the queries over it."""

"""What can happen: values, the life of a procedure step, aggregates and their events. No input, no output."""

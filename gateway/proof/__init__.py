"""What proves the gateway from end to end: it knows the relay, the settings and every part."""

"""What it costs: benchmarks against the bare thing, and the synthetic examinations that they and the tests live on."""

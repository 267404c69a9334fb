"""The parts of bench_state.py: one kind of measurement per file."""

"""Speed and truth of chat clients, side by side: ``python -m benchmarks``."""

"""Speed and memory, each measured side by side in one run with what it replaces. `python -m benchmarks [NAME …]`."""

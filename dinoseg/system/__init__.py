"""The machine: processes, files, devices, and what is said when they fail."""

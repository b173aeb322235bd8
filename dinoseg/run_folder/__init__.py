"""The run folder: where each file lies, how it is written whole, and how it is read back and checked."""

"""Runs on the Hugging Face Hub: what is sent of one, and how one that was sent becomes a run folder again."""

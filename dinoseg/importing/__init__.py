"""Annotations as other tools write them, drawn as masks in the folder layout that every verb reads."""

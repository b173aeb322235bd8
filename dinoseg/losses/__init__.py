"""Criteria: what a head is trained for. Ignored pixels count nowhere, and N processes give the loss of one."""

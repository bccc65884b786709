"""Targets and losses as pure functions of arrays; imports nothing of ours."""

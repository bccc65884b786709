"""Flax modules, shapes in and shapes out; `networks.config` alone can be read without jax."""

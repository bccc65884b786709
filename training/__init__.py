"""Orchestration over interfaces: acting, learning, evaluation, checkpoints. Knows no agent."""

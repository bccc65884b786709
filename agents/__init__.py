"""Recipes: networks and losses put together into agents."""

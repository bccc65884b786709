"""What is acted in: environments that observe, act, and save their exact state."""

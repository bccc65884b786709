"""The only place where everything meets: presets, commands, reports. Thin."""

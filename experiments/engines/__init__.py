"""Engines: where the command of a run is carried out. One module per engine."""

"""Studies: grids of agents, games, level distributions and seeds. One module per study."""

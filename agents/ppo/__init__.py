"""Proximal policy optimisation (Schulman et al. 2017), with Procgen's published settings.

Source of the settings: Cobbe et al. 2020 (arXiv 1912.01588) and its released code; the
facts are collected in SCIENCE.md. What differs here, and why:

| detail | published | here | why |
|---|---|---|---|
| environments on hard levels | 4 workers x 64 | one process, 256 | same batch; no MPI |
| gradient norm limit | per worker, before averaging | once, after averaging | one update on any number of devices gives the same result |
| advantage normalisation | over a worker's minibatch | over the whole minibatch | the same for one worker |
| statistics of reward scaling | per worker | over all environments | the same for one worker |
| minibatch | 8 of each worker's shuffled steps | 8 of the shuffled steps of each device | equal for one device |
| reward statistics in the checkpoint | not saved | saved | exact resume |
"""

"""MuZero with reanalyse on draw (Schrittwieser et al. 2020; Unplugged, 2021).

Settings as collected in SCIENCE.md. What differs here, and why:

| detail | published | here | why |
|---|---|---|---|
| search | pUCT, 50 simulations | Gumbel search by default, fewer simulations | a policy improvement at any budget (Danihelka et al. 2022), several times faster; pUCT by config |
| where reanalyse runs | background workers write to replay | on draw, with the target network | targets of a known age, a pure function |
| windows | independent | S starts folded into one sequence | S + K searches instead of S (K + 1) |
| value and reward support | 601 atoms over h in +-300 | by config, narrower for small runs | Procgen's h(return) stays under 8 |
| past an episode's end | absorbing, policy loss masked | the same | |
| Q rescaling epsilon | 1e-8 (mctx) | .01 | with 1e-8 noise of equal Q values becomes a near-deterministic target |
| temperature schedule | visit counts, annealed | Gumbel sampling (scale 1) | the search itself explores |
| noise at the root | Dirichlet, pUCT only | also for Gumbel search, by config, when acting | a prior that is sharp too early leaves Gumbel sampling nothing to explore |
"""

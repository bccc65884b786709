"""Q-learning as the model-free control of MuZero (Anand et al. 2022, "QL").

It shares backbone, replay, sequences, target interval, optimiser, categorical heads, n and
gamma with MuZero; what it lacks is planning. SCIENCE.md says what is known of the paper's.

| detail | published | here | why |
|---|---|---|---|
| Q | reward + gamma V, V conditioned on the action | the same: V of the latent after one model step | known decomposition |
| target | not documented | n-step, then the maximum over the target network's Q | the standard form |
| exploration | not documented | epsilon-greedy with a linear schedule | the standard form |
| steps without planning | not documented | `model_steps` from 1 to K | tells learning a model from planning with it |
"""

"""Q-learning as the model-free control of MuZero (Anand et al. 2022, "QL").

It shares backbone, replay, sequences, target interval, optimiser, categorical heads, n and
gamma with MuZero; what it lacks is planning. SCIENCE.md says what is known of the paper's.

| detail | published | here | why |
|---|---|---|---|
| Q | reward + gamma V, V conditioned on the action | the same: V of the latent after one model step | known decomposition |
| target | not documented | n-step, then the maximum over the target network's Q | the standard form |
| exploration | not documented | epsilon-greedy with a linear schedule | the standard form |
| steps without planning | not documented | `model_steps` from 1 to K | tells learning a model from planning with it |

`network`, `heads` and `action_value` lead from there down to a usual DQN (Mnih et al. 2015),
which `experiments/dqn_presets.py` puts together. Where that DQN differs from the published one:

| detail | published | here | why |
|---|---|---|---|
| network | three convolutions, 512 units, an output for every action | the same on 64x64x3 frames without stack; biases start at 0, kernels but for the head's as the control's | all forms start alike |
| n | 1 | the control's, 5 | not among the changes that the ladder measures |
| optimiser | RMSProp | the control's AdamW, clipping and schedule, with Rainbow's epsilon of 1.5e-4 | as above |
| rewards | clipped to plus and minus 1 | as they come | one scale for all agents; Huber's loss limits the gradient |
| updates | one after every 4 steps | the same number, in groups after a rollout | one loop for all agents |
| exploration, replay | epsilon to .1 in 1M frames, 1M frames | the control's | as above |
"""

"""Phasic policy gradient (Cobbe et al. 2021, arXiv 2009.04416), as an extension of PPO.

Policy phases as PPO's over every fresh rollout, and after every `rollouts_per_phase` of them
an auxiliary phase, which learns values with the policy's trunk while a clone term keeps the
policy. Source of the settings: the paper's appendix A and its released code; the facts are
collected in SCIENCE.md. What differs here, and why:

| detail | published | here | why |
|---|---|---|---|
| environments | 4 workers x 64 | one process, 256 in the paper preset | same batch; no MPI |
| minibatches | 8 of each worker's shuffled columns, gradients averaged | 8 of each device's | equal for one worker and one device |
| auxiliary minibatch | 4 segments of each worker: 512 in a pass, of 16 segments with 4 workers | 512 in a pass | as many updates from the same data |
| reward scaling | by the spread of returns after the rollout | by the spread after each step, as PPO here | both learn from the same rewards; equal once the spread has settled |
| detached trunk, auxiliary phase | paper: the value's gradient reaches the trunk; released code: it does not | it does not | the auxiliary head carries the gradient of the same targets |
| backbone | IMPALA | any; where it is not IMPALA's, stem convolutions count as stacks' first | the comparison shares backbones |
| unfinished group of rollouts in the checkpoint | not saved | saved | exact resume |

Memory: a group holds rollouts_per_phase x T x B frames of 12,288 bytes, 6.4 GB for 32 rollouts of
64 environments. It is on the host while it fills. When the auxiliary phase begins it is copied to
the device and turned into segments: for that moment it is there twice, afterwards once, and the
host keeps its own. On a CPU, whose device is the host, that makes 3 groups at the peak and 2
during the phase.
"""

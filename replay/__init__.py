"""Where training data waits on the host: rollouts used once, and the reanalyse replay."""

"""The training loop: schedules, optimisers, checkpoints, hooks, processes."""

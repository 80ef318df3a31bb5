"""What a config describes, built and run: train, evaluate, predict."""

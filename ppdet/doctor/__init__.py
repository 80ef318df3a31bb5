"""Whether a machine trains and detects as it should: one command whose page goes into an issue."""

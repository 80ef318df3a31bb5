"""Work on datasets without a training: make, check, convert."""

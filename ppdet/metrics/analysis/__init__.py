"""Where a detector is wrong, and how sure its AP is: computations on flat arrays, without drawing."""

"""Pages that show a training, an evaluation, or several side by side. Needs the extra ``report``."""

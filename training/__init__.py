"""Training: recordings to samples, losses, systems, simulation. Needs the ``training`` extra; robots do without it."""

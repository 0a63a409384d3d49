"""How good the depth is: hold-out, metrics, replay, report."""

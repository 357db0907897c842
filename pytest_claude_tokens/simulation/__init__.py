"""Simulated time, event loops, locks, network, and threads that run one at a time, all driven by a schedule.

It knows nothing of pytest, of Hypothesis or of any invariant: a body runs here, and other packages start and judge it.
"""

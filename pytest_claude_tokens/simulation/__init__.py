"""Running a body under a schedule: simulated time, a simulated event loop, threads under a baton."""

"""The known failures, by names such as ``R4``: a client with one bad habit reproduces each, and a twin survives it."""

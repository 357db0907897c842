"""What people are told of a violation."""

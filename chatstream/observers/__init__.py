"""Who is told of streams, one file for each integration."""

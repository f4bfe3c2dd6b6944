"""Work on a finished store: inspect, verify, compact, export."""

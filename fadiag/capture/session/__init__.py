"""Connect a recording to its store: write, resume, describe the run, agree with other processes."""

"""Write a run: the writer thread, the files of each record, commits, locks."""

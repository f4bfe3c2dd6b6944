"""Writing a store: declare its arrays, append records, commit."""

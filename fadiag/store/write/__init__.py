"""Write a store: declare its arrays, append records, commit."""

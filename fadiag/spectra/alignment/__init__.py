"""How far two signals or matrices agree: cosines, subspaces, paths, CKA."""

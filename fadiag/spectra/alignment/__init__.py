"""Measure how far two signals or matrices agree: cosines, subspaces, paths and CKA."""

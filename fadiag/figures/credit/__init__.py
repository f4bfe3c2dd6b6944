"""Draw how the credit of a rule agrees with the exact one."""

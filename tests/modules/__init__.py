"""Stock modules in a scope."""

"""Stock modules inside a scope: what they register passes the chain, and a value given stays."""

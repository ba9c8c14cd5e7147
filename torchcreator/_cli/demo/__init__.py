"""The demonstration: handwritten digits, learned by several processes under declared policies."""

"""What a creator set stays, whatever a constructor writes."""

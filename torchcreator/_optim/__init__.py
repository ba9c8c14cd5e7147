"""Constraints, after every optimizer's every step; knows declarations, no scopes."""

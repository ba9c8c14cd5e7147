"""All that only a device can tell, by one command, in order of worth, within minutes."""

"""Sessions, crop, decode, tracker, sources and sinks: all a device needs, without torch."""

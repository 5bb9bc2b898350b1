"""From a NetParameter to a module."""

"""The page in the browser: what commands make, shown."""

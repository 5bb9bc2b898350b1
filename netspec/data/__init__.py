"""Where batches come from: readers, transformations, data sets, feeding by position."""

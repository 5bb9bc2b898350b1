"""What is wrong with a net, its weights, its data, a script."""

"""Nets and weights in from other frameworks and out to them."""

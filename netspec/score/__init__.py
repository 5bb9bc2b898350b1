"""Nets on images: predictions and what they are worth."""

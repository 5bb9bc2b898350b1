"""Pictures and words about nets and runs."""

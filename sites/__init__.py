"""What only a hospital may open: its recordings, made into examples of people."""

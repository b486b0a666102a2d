"""What runs at a hospital: its data, training, privacy, evaluation, and the replies to the server's requests."""
